"""The step of tensors without factors: the base's own, as if we were not there."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.state import State


def step(
    engine: Engine,
    options: dict[str, Any],
    params: Sequence[tuple[Tensor, float]],
    states: MutableMapping[Tensor, State],
) -> dict[str, Any]:
    """Take one step of the base on the parameters themselves.

    Args:
        engine: The base optimizer.
        options: The base's group options.
        params: Parameters with a gradient, each with its penalty ``lambda``: ``2 lambda w`` is added to
            the gradient, subtracted where the base maximizes.
        states: The optimizer's state, updated in place; the base's own keys.

    Returns:
        The base's group options after the step.
    """
    sign = -1 if options.get("maximize") else 1
    tensors = []
    for p, penalty in params:
        if penalty > 0 and p.grad is not None:
            # Another view of the same memory, so that the user's .grad stays what it was.
            penalized = p.detach()
            penalized.grad = p.grad.add(p, alpha=sign * 2 * penalty)
            tensors.append(penalized)
        else:
            tensors.append(p)
    kept = [states.get(p, {}) for p, _ in params]
    after = engine.step(options, tensors, None, kept)
    for (p, _), state in zip(params, kept, strict=True):
        if state:
            states[p] = state
    return after
