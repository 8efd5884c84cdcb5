"""Any base, in cache-sized blocks: no full-size temporaries.

The work of `reference` is done on pieces of at most `BLOCK` elements, several small tensors or one
part of a large one at a time, so that gradients, factors and base state of a piece stay in cache
between the passes over them. Elementwise bases make the pieces independent; what a base keeps once
per tensor (a step counter) is given to every piece as it was before the step.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.state import State
from dwf_optim.step import reference
from dwf_optim.step.slot import Slot, StepOptions

# Elements in a block: with D = 3 factors, their gradients and one state each in float32 about 5 MB,
# the best of the sizes measured in this project's kernel notes (128 k to 256 k).
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
    flat = all(tensor.is_contiguous() for tensor in _elementwise(slot))
    length = slot.weight.numel() if flat else slot.weight.shape[0]
    count = min(length, math.ceil(slot.weight.numel() / BLOCK))
    bounds = [length * i // count for i in range(count + 1)]
    after: list[State] = [dict(state) for state in slot.states]
    base = options.base
    scratch: list[Tensor] = []
    for begin, end in pairwise(bounds):
        rows = slice(begin, end)
        piece = Slot(
            weight=_view(slot.weight, rows, flat),
            grad=_view(slot.grad, rows, flat),
            factors=[_view(factor, rows, flat) for factor in slot.factors],
            states=[_cut(state, slot.weight.shape, rows, flat) for state in slot.states],
        )
        if not scratch or scratch[0].shape != piece.weight.shape:
            scratch = [torch.empty_like(factor) for factor in piece.factors]
        base = reference.step(engine, options, [piece], scratch=[scratch])
        for whole, part, factor in zip(after, piece.states, slot.factors, strict=True):
            _paste(whole, part, factor, rows, flat)
    for state, whole in zip(slot.states, after, strict=True):
        state.clear()
        state.update(whole)
    return base


def _elementwise(slot: Slot) -> list[Tensor]:
    """List every tensor of a slot that has one element for each weight."""
    values = [value for state in slot.states for value in state.values()]
    shaped = [v for v in values if isinstance(v, Tensor) and v.shape == slot.weight.shape]
    return [slot.weight, slot.grad, *slot.factors, *shaped]


def _view(tensor: Tensor, rows: slice, flat: bool) -> Tensor:
    return tensor.view(-1)[rows] if flat else tensor[rows]


def _cut(state: State, shape: torch.Size, rows: slice, flat: bool) -> State:
    """Take a piece of a base state: views of what is elementwise, copies of what is per tensor."""
    part: State = {}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            part[key] = value
        elif value.shape == shape:
            part[key] = _view(value, rows, flat)
        else:
            part[key] = value.clone()
    return part


def _paste(whole: State, part: State, like: Tensor, rows: slice, flat: bool) -> None:
    """Put a piece's base state back, making room at the first step."""
    shape = _view(like, rows, flat).shape
    for key, value in part.items():
        if not (isinstance(value, Tensor) and value.shape == shape):
            whole[key] = value
            continue
        if not isinstance(whole.get(key), Tensor):
            whole[key] = torch.empty_like(like, dtype=value.dtype)
        target = _view(whole[key], rows, flat)
        if target.data_ptr() != value.data_ptr():
            target.copy_(value)
