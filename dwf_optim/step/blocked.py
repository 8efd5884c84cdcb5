"""Any base, in cache-sized blocks: no full-size temporaries.

The work of `reference`, through the extension's passes where there are any, is done on pieces of at most
`BLOCK` elements, several small tensors or one part of a large one at a time, so that gradients, factors
and base state of a piece stay in cache between the passes over them. Elementwise bases make the pieces
independent; what a base keeps once per tensor (a step counter) is given to every piece as it was before
the step. Weights that share gates are stepped whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.state import State
from dwf_optim.step import reference
from dwf_optim.step.passes import with_passes
from dwf_optim.step.slot import Slot, StepOptions

# Elements in a block: with D = 3 factors, their gradients and one state each in float32 about 5 MB,
# which stays in the outer cache; with blocks that fit into the inner one, of a third of that, the calls
# cost what the passes save.
BLOCK = 128 * 1024

# Bases that have a kernel of one pass on the CPU, which torch does not choose by itself; and those whose
# weight_decay is L2 in it, at no cost.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
_FUSED_WITH_L2 = (torch.optim.SGD, torch.optim.Adam, torch.optim.Adagrad)
# What is changed for that.
_CHANGED = {"fused", "weight_decay"}


def step(engine: Engine, options: StepOptions, slots: list[Slot]) -> dict[str, Any]:
    """Take one step of the base on the factors of every slot, block by block.

    Args:
        engine: The base optimizer.
        options: What the slots share.
        slots: The weights; factors, states and weights are updated in place.

    Returns:
        The base's group options after the step.
    """
    if not options.mode.by_element:
        return reference.step(engine, options, slots)
    asked = options.base
    if _has_kernel(engine, asked, slots):
        options = _through_kernel(engine, options)
    options = replace(options, mode=with_passes(options.mode))
    base = options.base
    batch: list[Slot] = []
    left = BLOCK
    for slot in slots:
        size = slot.weight.numel()
        if size > BLOCK or not _is_contiguous(slot):
            base = _step_large(engine, options, slot)
            continue
        if size > left:
            base = reference.step(engine, options, batch)
            batch, left = [], BLOCK
        batch.append(slot)
        left -= size
    if batch:
        base = reference.step(engine, options, batch)
    return {**base, **{key: asked[key] for key in asked.keys() & _CHANGED}}


def _has_kernel(engine: Engine, base: dict[str, Any], slots: list[Slot]) -> bool:
    """Say whether torch steps this base in one pass if it is told to, and the user leaves it to us."""
    unsaid = base.get("fused") is None and base.get("foreach") is None and not base.get("capturable")
    on_cpu = all(slot.weight.device.type == "cpu" for slot in slots)
    numbers = not any(isinstance(beta, Tensor) for beta in base.get("betas", ()))
    return engine.base in _FUSED and unsaid and on_cpu and numbers and all(map(_has_shapes, slots))


def _through_kernel(engine: Engine, options: StepOptions) -> StepOptions:
    """Have the base's kernel do what it can of the step: the penalty too, where its decay is L2."""
    base = {**options.base, "fused": True}
    if engine.base not in _FUSED_WITH_L2 or base.get("decoupled_weight_decay"):
        return replace(options, base=base)
    base["weight_decay"] = 2 * abs(options.penalty) / options.depth
    return replace(options, base=base, penalty=0.0)


def _has_shapes(slot: Slot) -> bool:
    """Say whether all elementwise state has the weight's shape: a fused kernel does not look."""
    return all(
        value is None or key == "step" or value.shape == slot.weight.shape
        for state in slot.states
        for key, value in state.items()
    )


def _is_contiguous(slot: Slot) -> bool:
    """Say whether a fused kernel, which walks raw memory, may be given all that the base works on."""
    values = [*slot.kept, *(value for state in slot.states for value in state.values())]
    return all(value.is_contiguous() for value in values if isinstance(value, Tensor))


def _step_large(engine: Engine, options: StepOptions, slot: Slot) -> dict[str, Any]:
    """Step a tensor of more than one block, piece by piece, in one order of memory."""
    cut = _Cut.of(slot)
    weights, grads = cut.split(slot.weight), cut.split(slot.grad)
    kept = [cut.split(tensor) for tensor in slot.kept]
    states = [_Pieces(state, _pattern(slot), cut) for state in slot.states]
    base = options.base
    scratch: list[Tensor] = []
    for index, (weight, grad, *held) in enumerate(zip(weights, grads, *kept, strict=True)):
        # A base's fused kernel walks raw memory, so it must not be given gaps.
        dense = held if cut.flat else [tensor.contiguous() for tensor in held]
        piece = Slot(weight, grad, dense, [pieces.take(index) for pieces in states])
        if not scratch or scratch[0].shape != weight.shape:
            scratch = [torch.empty_like(tensor) for tensor in dense or [weight]]
        base = reference.step(engine, options, [piece], scratch=[scratch])
        if not cut.flat:
            for tensor, stepped in zip(held, dense, strict=True):
                tensor.copy_(stepped)
        for pieces, part in zip(states, piece.states, strict=True):
            pieces.put(index, part, weight.shape)
    for state, pieces in zip(slot.states, states, strict=True):
        state.clear()
        state.update(pieces.whole)
    return base


@dataclass(frozen=True)
class _Cut:
    """How tensors of one shape are cut: flat in storage order, else along the outermost dimension.

    Attributes:
        order: The dimensions from the longest stride to the shortest.
        flat: Whether all tensors are contiguous in that order.
        length: Elements if flat, else size of the outermost dimension.
        count: Number of pieces.
    """

    order: tuple[int, ...]
    flat: bool
    length: int
    count: int

    @classmethod
    def of(cls, slot: Slot) -> _Cut:
        strides = _pattern(slot).stride()
        order = tuple(sorted(range(len(strides)), key=lambda dim: -strides[dim]))
        values = [value for state in slot.states for value in state.values()]
        shaped = [v for v in values if isinstance(v, Tensor) and v.shape == slot.weight.shape]
        tensors = [slot.weight, slot.grad, *slot.kept, *shaped]
        flat = all(tensor.permute(order).is_contiguous() for tensor in tensors)
        size = slot.weight.numel()
        length = size if flat else slot.weight.shape[order[0]]
        return cls(order, flat, length, min(length, math.ceil(size / BLOCK)))

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Return the pieces of a tensor, sharing its memory.

        They are as even as can be: none is so short that it looks like a number.
        """
        tensor = tensor.permute(self.order)
        ends = [self.length * i // self.count for i in range(self.count + 1)]
        sizes = [end - begin for begin, end in pairwise(ends)]
        return torch.split_with_sizes(tensor.view(-1) if self.flat else tensor, sizes)


class _Pieces:
    """The base's state of a factor, in pieces: elementwise values cut, those per tensor copied.

    Args:
        state: The whole.
        like: Tensor like which elementwise values are laid out.
        cut: How they are cut.

    Attributes:
        whole: The state after the pieces that have been put back.
    """

    def __init__(self, state: State, like: Tensor, cut: _Cut) -> None:
        self.whole = dict(state)
        self._like, self._cut = like, cut
        shaped = {k for k, v in state.items() if isinstance(v, Tensor) and v.shape == like.shape}
        self._before = {key: cut.split(state[key]) for key in shaped}
        self._after = dict(self._before)
        self._per_tensor = {key: value for key, value in state.items() if key not in shaped}

    def take(self, index: int) -> State:
        """Return a piece, in memory without gaps."""
        part = {k: v.clone() if isinstance(v, Tensor) else v for k, v in self._per_tensor.items()}
        for key, pieces in self._before.items():
            part[key] = pieces[index] if self._cut.flat else pieces[index].contiguous()
        return part

    def put(self, index: int, part: State, shape: torch.Size) -> None:
        """Take a piece back after a step, making room at the first."""
        for key, value in part.items():
            pieces = self._after.get(key)
            if pieces is not None and value is pieces[index]:
                continue
            if not (isinstance(value, Tensor) and value.shape == shape):
                self.whole[key] = value
                continue
            if pieces is None:
                self.whole[key] = torch.empty_like(self._like, dtype=value.dtype)
                self._after[key] = self._cut.split(self.whole[key])
            self._after[key][index].copy_(value)


def _pattern(slot: Slot) -> Tensor:
    """Return the tensor like which base state is laid out in memory."""
    return slot.kept[0] if slot.kept else slot.weight
