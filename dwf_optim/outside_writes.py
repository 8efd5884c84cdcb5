"""Writes to a weight from outside: how they are noticed cheaply, and how the factors follow.

EMA and SWA swaps, weight clipping, ``model.load_state_dict`` and the like change a weight's version or
address. Writes through ``p.data`` change neither, so at each step a sample of every weight is compared
with its factors, another one each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.sharding import local, local_state
from dwf_optim.state import State, elementwise, is_per_tensor
from dwf_optim.storage import Storage

# Weights of up to this many elements are compared whole: that costs no more than a sample of them.
WHOLE = 2**15
# Elements in one piece of a sample, a cache line of float32; and the least distance of two pieces.
LINE, APART = 16, 256
# Steps between comparisons on devices that have to be waited for to learn the outcome.
EVERY = 16
# Elements compared at a time, so that they stay in cache.
BLOCK = 128 * 1024

Writes = tuple[int, int]


def writes(tensor: Tensor) -> Writes:
    """Return a tensor's version and address: if they differ from before, another has written it."""
    part = local(tensor)
    return part._version, part.data_ptr()


def seems_unwritten(
    p: Tensor, kept: Sequence[Tensor], mode: Storage, depth: int, step: int | None
) -> bool:
    """Compare a sample of a weight with its factors, to the bit.

    Weights of up to `WHOLE` elements are compared whole. Of others the sample has a piece of every row
    (of what one index of the outermost dimension selects) of `APART` elements or more, at another place
    in each. So a write to a row is seen for certain, to a column if there are as many rows as pieces in
    one, to ``k`` scattered elements with probability ``1 - (1 - LINE / row)^k``.

    Args:
        p: The weight.
        kept: What is kept of its factors: tensors of its shape.
        mode: The way they are kept.
        depth: ``D``.
        step: Number of the step, by which the sample moves on. None compares all.

    Returns:
        False if a difference was found.
    """
    if step is None:
        return _agrees(p, kept, mode, depth)
    if p.device.type != "cpu":
        return step % EVERY != 0 or _agrees(p, kept, mode, depth)
    tensors = [local(tensor) for tensor in (p, *kept)]
    size = tensors[0].numel()
    if size <= WHOLE or not mode.by_element or (flat := _flat(tensors)) is None:
        return _agrees(p, kept, mode, depth)
    # A little less than a row, so that pieces wander through it and no row is left out.
    apart = max(max(tensors[0].stride()), APART) - LINE
    start = LINE * step % apart
    pieces = (size - start - LINE) // apart + 1
    sample = [t.as_strided((pieces, LINE), (apart, 1), t.storage_offset() + start) for t in flat]
    return _equal(sample, mode, depth)


def follow(p: Tensor, state: State, mode: Storage, depth: int) -> None:
    """Bring factors and elementwise base state to the dtype and device that the weight calls for."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    kept = mode.kept(state, depth)
    values = [*kept, *elementwise(state)]
    shapes = {p.shape, *(tensor.shape for tensor in kept)}
    held = next((v for v in values if isinstance(v, Tensor) and v.shape == p.shape), None)
    if held is None or (held.dtype == dtype and held.device == p.device):
        return
    for key, value in state.items():
        if is_per_tensor(key) or not isinstance(value, Tensor):
            continue
        if value.shape in shapes and value.dtype == held.dtype:
            state[key] = value.to(device=p.device, dtype=dtype)


def take_over(p: Tensor, state: State, mode: Storage, depth: int) -> None:
    """Re-factorize what was written to a weight from outside, keeping ratios, signs and base state.

    Where the outside wrote zero, factors and base state become zero too. A difference of up to D ulp is
    no write: factors represent a weight that they have not yet stepped to that precision only. Nor is
    NaN, or an infinity, where the factors' product is the same: a run that has diverged.

    Args:
        p: The weight.
        state: Its state, changed in place.
        mode: The way its factors are kept.
        depth: ``D``.
    """
    p, state = local(p), local_state(state)
    kept = mode.kept(state, depth)
    if _agrees(p, kept, mode, depth):
        return
    held = mode.product(kept, p, depth).to(p.dtype)
    precision = torch.finfo(kept[0].dtype)
    margin = p.abs().mul_(depth * precision.eps).add_(depth * precision.tiny * precision.eps)
    # The margin of an infinite weight is infinite, which would take any number for it.
    near = ((held - p).abs() <= margin) & p.isfinite() & (p != 0)
    changed = ~(_same(held, p) | near)
    if not bool(changed.any()):
        return
    mode.take_over(kept, state, p, depth, changed)


def _flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Return views in the order of memory, or None where there is no common one without gaps."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return list(tensors)
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    permuted = [tensor.permute(order) for tensor in tensors]
    return permuted if all(tensor.is_contiguous() for tensor in permuted) else None


def _agrees(p: Tensor, kept: Sequence[Tensor], mode: Storage, depth: int) -> bool:
    """Whether all of a weight is the product of its factors; compared in blocks."""
    tensors = [local(tensor) for tensor in (p, *kept)]
    flat = _flat(tensors) if mode.by_element else None
    if flat is None:
        return _equal(tensors, mode, depth)
    blocks = zip(*(t.view(-1).split(BLOCK) for t in flat), strict=True)
    return all(_equal(block, mode, depth) for block in blocks)


def _equal(tensors: Sequence[Tensor], mode: Storage, depth: int) -> bool:
    weight, *kept = tensors
    held = mode.product(kept, weight, depth).to(weight.dtype)
    # One pass says it all unless there is NaN, which is unequal to itself.
    return torch.equal(held, weight) or bool(_same(held, weight).all())


def _same(held: Tensor, weight: Tensor) -> Tensor:
    """Return where a weight is its factors' product, NaN for NaN."""
    return (held == weight) | (held.isnan() & weight.isnan())
