"""How a step is computed: one file a way, all held against `reference` by the tests.

To add a way, write a module with a function like `reference.step` and a line in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwf_optim.base import Engine
from dwf_optim.step import blocked, reference
from dwf_optim.step.slot import Slot, StepOptions

__all__ = ["BACKENDS", "Slot", "StepOptions", "resolve_backend"]

BACKENDS: dict[str, Callable[[Engine, StepOptions, list[Slot]], dict[str, Any]]] = {
    "reference": reference.step,
    "blocked": blocked.step,
}
_AUTO = "blocked"


def resolve_backend(name: str) -> str:
    """Turn "auto" into the backend's own name, and refuse unknown ones.

    Raises:
        ValueError: If there is no such backend.
    """
    if name == "auto":
        return _AUTO
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; use one of {('auto', *BACKENDS)}")
    return name
