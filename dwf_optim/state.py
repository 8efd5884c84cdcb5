"""The checkpoint format: which keys a parameter's optimizer state has.

A parameter that is not factorized has exactly the base optimizer's keys. A factorized one has, for
each factor ``d``, ``factor.d`` (the factor) and ``base.d.KEY`` (what the base calls ``KEY``); where
one root stands for all factors, ``root`` (unless it is recomputed) and ``base.root.KEY``; where groups
share gates, ``omega`` (the full factor), ``gate.d`` (a gate of each group, of the gates' own shape), and
``base.omega.KEY`` and ``base.gate.d.KEY``. One whose
weight was re-drawn and that has not been stepped has ``redrawn`` (the scale of its draw), in checkpoints
only. Values are tensors and numbers only. Changing a name here breaks users' checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

State = dict[str, Any]
# What the base steps: a factor by its number, or the root.
Part = int | str

# The one root of a weight that has no factors of its own.
ROOT = "root"
# The full factor of a weight with gates.
OMEGA = "omega"
_FACTOR = "factor."

# The functions that make keys remember them, so that all states have the same strings: with thousands of
# small parameters, making and comparing equal ones takes longer than the arithmetic of a step.

# Goes up when a key changes its name or meaning; saved in every group.
FORMAT = 1

REDRAWN = "redrawn"

# What torch's bases keep once per tensor. In a 0-d parameter's state it has the shape of what is kept
# per element, so that only the name tells.
_PER_TENSOR = frozenset({"step", "mu_product", "eta", "mu"})


@cache
def is_per_tensor(key: str) -> bool:
    """Say whether a key, the base's or ours, is one that a base keeps once per tensor, as a counter."""
    return key.rpartition(".")[2] in _PER_TENSOR


def elementwise(state: State) -> list[Any]:
    """Return the values of a parameter's or a factor's state, without what is kept once per tensor."""
    return [value for key, value in state.items() if not is_per_tensor(key)]


@cache
def factor_key(d: int) -> str:
    """Return the key of factor ``d`` (counted from 0)."""
    return f"{_FACTOR}{d}"


def is_of_weight(key: str) -> bool:
    """Say whether a key is that of a factor or a root, which has its weight's shape."""
    return key in (ROOT, OMEGA) or key.startswith(_FACTOR)


@cache
def gate_key(d: int) -> str:
    """Return the key of gate ``d`` (counted from 0)."""
    return f"gate.{d}"


@cache
def base_prefix(part: Part) -> str:
    """Return what the keys of a part's base state begin with."""
    return f"base.{part}."


@cache
def base_key(part: Part, key: str) -> str:
    """Return the key of what the base calls ``key`` for a part."""
    return base_prefix(part) + key


def get_base_states(state: State, parts: Sequence[Part]) -> list[State]:
    """Return one dict per part, as the base optimizer would keep it; its tensors are shared."""
    views: list[State] = [{} for _ in parts]
    prefixes = [base_prefix(part) for part in parts]
    for key, value in state.items():
        for view, prefix in zip(views, prefixes, strict=True):
            if key.startswith(prefix):
                view[key[len(prefix) :]] = value
    return views


def put_base_states(state: State, parts: Sequence[Part], views: Sequence[State]) -> None:
    """Store what the base optimizer keeps for each part in a parameter's state."""
    for part, view in zip(parts, views, strict=True):
        for key, value in view.items():
            state[base_key(part, key)] = value
