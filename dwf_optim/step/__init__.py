"""How a step is computed: one file a way, all held against `reference` by the tests.

To add a way, write a module with a function like `reference.step` and a line in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwf_optim.base import Engine
from dwf_optim.step import blocked, compiled, native, reference
from dwf_optim.step.slot import Slot, StepOptions

__all__ = ["BACKENDS", "Backend", "Slot", "StepOptions", "resolve_backend"]

Backend = Callable[[Engine, StepOptions, list[Slot]], dict[str, Any]]

BACKENDS: dict[str, Backend] = {
    "reference": reference.step,
    "blocked": blocked.step,
    "compiled": compiled.step,
    # Of most weights no slot is made: `native.collect` takes them before.
    "native": native.step_slots,
}
_AUTO = "native"


def resolve_backend(name: str) -> Backend:
    """Find a backend by name.

    Raises:
        ValueError: If there is none of this name, or not in this installation.
    """
    if name == "native":
        native.require_built()
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; use one of {('auto', *BACKENDS)}")
    return BACKENDS[_AUTO if name == "auto" else name]
