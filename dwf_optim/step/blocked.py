"""Any base, in cache-sized blocks: no full-size temporaries.

The work of `reference` is done on pieces of at most `BLOCK` elements, several small tensors or one
part of a large one at a time, so that gradients, factors and base state of a piece stay in cache
between the passes over them. Elementwise bases make the pieces independent; what a base keeps once
per tensor (a step counter) is given to every piece as it was before the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.state import State
from dwf_optim.step import reference
from dwf_optim.step.slot import Slot, StepOptions

# Elements in a block: with D = 3 factors, their gradients and one state each in float32 about 5 MB,
# which stays in the outer cache; with much smaller blocks the calls cost more than the passes.
BLOCK = 128 * 1024


def step(engine: Engine, options: StepOptions, slots: list[Slot]) -> dict[str, Any]:
    """Take one step of the base on the factors of every slot, block by block.

    Args:
        engine: The base optimizer.
        options: What the slots share.
        slots: The weights; factors, states and weights are updated in place.

    Returns:
        The base's group options after the step.
    """
    base = options.base
    batch: list[Slot] = []
    room = BLOCK
    for slot in slots:
        size = slot.weight.numel()
        if size > BLOCK:
            base = _step_large(engine, options, slot)
            continue
        if size > room:
            base = reference.step(engine, options, batch)
            batch, room = [], BLOCK
        batch.append(slot)
        room -= size
    if batch:
        base = reference.step(engine, options, batch)
    return base


def _step_large(engine: Engine, options: StepOptions, slot: Slot) -> dict[str, Any]:
    """Step a tensor of more than one block, piece by piece."""
    cut = _Cut.of(slot)
    after: list[State] = [dict(state) for state in slot.states]
    base = options.base
    scratch: list[Tensor] = []
    for rows in cut.pieces():
        kept = [cut.view(tensor, rows) for tensor in slot.kept]
        piece = Slot(
            weight=cut.view(slot.weight, rows),
            grad=cut.view(slot.grad, rows),
            # A base's fused kernel walks raw memory, so it must not be given gaps.
            kept=[tensor.contiguous() for tensor in kept],
            states=[_take(state, slot.weight.shape, cut, rows) for state in slot.states],
        )
        if not scratch or scratch[0].shape != piece.weight.shape:
            scratch = [torch.empty_like(tensor) for tensor in piece.kept]
        base = reference.step(engine, options, [piece], scratch=[scratch])
        for tensor, stepped in zip(kept, piece.kept, strict=True):
            _write_back(tensor, stepped)
        for whole, part in zip(after, piece.states, strict=True):
            _put(whole, part, _pattern(slot), cut, rows)
    for state, whole in zip(slot.states, after, strict=True):
        state.clear()
        state.update(whole)
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

    def pieces(self) -> Iterator[slice]:
        """Cut into pieces as even as can be: none is so short that it looks like a number."""
        for begin, end in pairwise(self.length * i // self.count for i in range(self.count + 1)):
            yield slice(begin, end)

    def view(self, tensor: Tensor, rows: slice) -> Tensor:
        """Return a piece of a tensor, sharing its memory."""
        tensor = tensor.permute(self.order)
        return tensor.view(-1)[rows] if self.flat else tensor[rows]


def _pattern(slot: Slot) -> Tensor:
    """Return the tensor like which base state is laid out in memory."""
    return slot.kept[0] if slot.kept else slot.weight


def _take(state: State, shape: torch.Size, cut: _Cut, rows: slice) -> State:
    """Take a piece of a base state: what is elementwise in pieces, what is per tensor copied."""
    part: State = {}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            part[key] = value
        elif value.shape == shape:
            part[key] = cut.view(value, rows).contiguous()
        else:
            part[key] = value.clone()
    return part


def _put(whole: State, part: State, like: Tensor, cut: _Cut, rows: slice) -> None:
    """Put a piece's base state back, making room at the first step."""
    shape = cut.view(like, rows).shape
    for key, value in part.items():
        if not (isinstance(value, Tensor) and value.shape == shape):
            whole[key] = value
            continue
        if not isinstance(whole.get(key), Tensor):
            whole[key] = torch.empty_like(like, dtype=value.dtype)
        _write_back(cut.view(whole[key], rows), value)


def _write_back(target: Tensor, value: Tensor) -> None:
    """Copy unless it is the same memory."""
    if target.data_ptr() != value.data_ptr():
        target.copy_(value)
