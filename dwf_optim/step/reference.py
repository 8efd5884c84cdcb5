"""The readable truth: whole tensors, one after the other, no tricks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.factors import factor_gradients, flush_dead, product
from dwf_optim.state import elementwise
from dwf_optim.step.slot import Slot, StepOptions


def step(
    engine: Engine,
    options: StepOptions,
    slots: list[Slot],
    scratch: list[list[Tensor]] | None = None,
) -> dict[str, Any]:
    """Take one step of the base on the factors of every slot, and write the products.

    Args:
        engine: The base optimizer.
        options: What the slots share.
        slots: The weights; factors, states and weights are updated in place.
        scratch: Optional room for the factor gradients, ``D`` tensors a slot.

    Returns:
        The base's group options after the step.
    """
    tensors: list[Tensor] = []
    grads: list[Tensor] = []
    states = []
    for index, slot in enumerate(slots):
        out = None if scratch is None else scratch[index]
        grads += factor_gradients(slot.factors, slot.grad, options.penalty, out=out)
        # A base may move a tensor even at lr 0 (Rprop's least step), so then it gets copies.
        tensors += slot.factors if options.write else [f.clone() for f in slot.factors]
        states += slot.states
    base = engine.step(options.base, tensors, grads, states)
    if not options.write:
        return base
    for slot in slots:
        if options.flush:
            flush_dead(slot.factors, [v for state in slot.states for v in elementwise(state)])
        slot.weight.copy_(product(slot.factors))
    return base
