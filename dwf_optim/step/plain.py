"""The step of tensors without factors: the base's own, as if we were not there."""

from __future__ import annotations

from collections import defaultdict
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
    tensors = [_penalized(p, sign * 2 * penalty) if penalty > 0 else p for p, penalty in params]
    # Not the state itself: a base sees nothing of other parameters.
    lent: defaultdict[Tensor, State] = defaultdict(dict)
    for tensor, (p, _) in zip(tensors, params, strict=True):
        if (held := states.get(p)) is not None:
            lent[tensor] = held
    after = engine.run(options, tensors, lent)
    for tensor, (p, _) in zip(tensors, params, strict=True):
        if state := lent.get(tensor):
            states[p] = state
    return after


def _penalized(p: Tensor, decay: float) -> Tensor:
    """Return another view of a parameter's memory, so that the user's ``.grad`` stays what it was."""
    if p.grad is None:
        return p
    penalized = p.detach()
    penalized.grad = p.grad.add(p, alpha=decay)
    return penalized
