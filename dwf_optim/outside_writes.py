"""Writes to a weight from outside: how they are noticed cheaply, and how the factors follow.

EMA and SWA swaps, weight clipping, ``model.load_state_dict`` and the like change a weight's version or
address. Writes through ``p.data`` change neither, so at each step a sample of every weight is compared
with its factors, another one each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.factors import match, product, zero_where
from dwf_optim.sharding import local, local_state
from dwf_optim.state import State, get_factors

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


def seems_unwritten(p: Tensor, factors: Sequence[Tensor], step: int | None) -> bool:
    """Compare a sample of a weight with its factors, to the bit.

    Weights of up to `WHOLE` elements are compared whole. Of others the sample has a piece of every row
    (of what one index of the outermost dimension selects) of `APART` elements or more, at another place
    in each. So a write to a row is seen for certain, to a column if there are as many rows as pieces in
    one, to ``k`` scattered elements with probability ``1 - (1 - LINE / row)^k``.

    Args:
        p: The weight.
        factors: ``D`` tensors of its shape.
        step: Number of the step, by which the sample moves on. None compares all.

    Returns:
        False if a difference was found.
    """
    if step is None:
        return _agrees(p, factors)
    if p.device.type != "cpu":
        return step % EVERY != 0 or _agrees(p, factors)
    tensors = [local(tensor) for tensor in (p, *factors)]
    size = tensors[0].numel()
    if size <= WHOLE or (flat := _flat(tensors)) is None:
        return _agrees(p, factors)
    # A little less than a row, so that pieces wander through it and no row is left out.
    apart = max(max(tensors[0].stride()), APART) - LINE
    start = LINE * step % apart
    pieces = (size - start - LINE) // apart + 1
    return _equal([t.as_strided((pieces, LINE), (apart, 1), t.storage_offset() + start) for t in flat])


def follow(p: Tensor, state: State, depth: int) -> None:
    """Bring factors and elementwise base state to the dtype and device that the weight calls for."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    held = get_factors(state, depth)[0]
    if held.dtype == dtype and held.device == p.device:
        return
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == p.shape and value.dtype == held.dtype:
            state[key] = value.to(device=p.device, dtype=dtype)


def take_over(p: Tensor, state: State, depth: int) -> None:
    """Re-factorize what was written to a weight from outside, keeping ratios, signs and base state.

    Where the outside wrote zero, factors and base state become zero too. A difference of up to D ulp is
    no write: factors represent a weight that they have not yet stepped to that precision only.

    Args:
        p: The weight.
        state: Its state, changed in place.
        depth: ``D``.
    """
    p, state = local(p), local_state(state)
    factors = get_factors(state, depth)
    if _agrees(p, factors):
        return
    held = product(factors).to(p.dtype)
    precision = torch.finfo(factors[0].dtype)
    margin = p.abs().mul_(depth * precision.eps).add_(depth * precision.tiny * precision.eps)
    # Written so that NaN, which compares false, counts as a change.
    same = torch.where(p == 0, held == 0, (held - p).abs() <= margin)
    changed = ~same
    if not bool(changed.any()):
        return
    for factor, value in zip(factors, match(factors, p), strict=True):
        factor.copy_(torch.where(changed, value, factor))
    zero_where(changed & (p == 0), list(state.values()))


def _flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Return views in the order of memory, or None where there is no common one without gaps."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return list(tensors)
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    permuted = [tensor.permute(order) for tensor in tensors]
    return permuted if all(tensor.is_contiguous() for tensor in permuted) else None


def _agrees(p: Tensor, factors: Sequence[Tensor]) -> bool:
    """Whether all of a weight is the product of its factors; compared in blocks."""
    tensors = [local(tensor) for tensor in (p, *factors)]
    flat = _flat(tensors)
    if flat is None:
        return _equal(tensors)
    return all(_equal(block) for block in zip(*(t.view(-1).split(BLOCK) for t in flat), strict=True))


def _equal(tensors: Sequence[Tensor]) -> bool:
    weight, *factors = tensors
    return torch.equal(product(factors).to(weight.dtype), weight)
