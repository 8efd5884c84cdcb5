"""The readable truth: whole tensors, one after the other, no tricks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dwf_optim.base import Engine
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
        scratch: Optional room for the gradients of what is kept, as many tensors a slot.

    Returns:
        The base's group options after the step.
    """
    mode, depth = options.mode, options.depth
    stepped: list[list[Tensor]] = []
    grads: list[Tensor] = []
    states = []
    for index, slot in enumerate(slots):
        out = None if scratch is None else scratch[index]
        tensors = mode.stepped(slot.kept, slot.weight, depth, slot.states)
        grads += mode.gradients(tensors, slot.weight, slot.grad, options.penalty, depth, out)
        # A base may move a tensor even at lr 0 (Rprop's least step), so then it gets copies.
        stepped.append(tensors if options.write else [tensor.clone() for tensor in tensors])
        states += slot.states
    base = engine.step(options.base, [tensor for some in stepped for tensor in some], grads, states)
    if not options.write:
        return base
    for index, (slot, tensors) in enumerate(zip(slots, stepped, strict=True)):
        room = None if scratch is None else scratch[index][0]
        mode.finish(tensors, slot.weight, depth, slot.states, options.flush, room)
    return base
