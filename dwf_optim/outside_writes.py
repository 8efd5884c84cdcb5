"""Writes to a weight from outside: how they are noticed cheaply, and how the factors follow.

EMA and SWA swaps, weight clipping, ``model.load_state_dict`` and the like change a weight's version or
address. Writes through ``p.data`` change neither, so a part of every weight is compared with its factors
at each step, another part each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.factors import match, product, zero_where
from dwf_optim.sharding import local, local_state
from dwf_optim.state import State, get_factors

# Every element of a weight is compared once in this many steps. A prime, so that samples do not stay in
# step with the rows of a matrix, where a written column would hide between them.
PERIOD = 17
# Weights of up to WHOLE elements are compared whole, up to BY_ELEMENT every 17th element, and beyond
# that every 17th line, because memory is read by cache lines.
WHOLE, BY_ELEMENT, LINE = 2**14, 2**18, 16
# Elements compared at a time, so that they stay in cache.
BLOCK = 128 * 1024

Writes = tuple[int, int]


def writes(tensor: Tensor) -> Writes:
    """Return a tensor's version and address: if they differ from before, another has written it."""
    part = local(tensor)
    return part._version, part.data_ptr()


def seems_unwritten(p: Tensor, factors: Sequence[Tensor], step: int | None) -> bool:
    """Compare a part of a weight with its factors, to the bit.

    A write to more than ``PERIOD * LINE`` elements in a row is seen for certain, one to ``k`` scattered
    elements with probability ``1 - (1 - 1 / PERIOD)^k``, any at all within `PERIOD` steps. On devices
    that are waited for to learn the outcome, all is compared once in that many steps.

    Args:
        p: The weight.
        factors: ``D`` tensors of its shape.
        step: Number of the step; says which part. None compares all.

    Returns:
        False if a difference was found.
    """
    if step is None:
        return _agrees(p, factors)
    tensors = [local(tensor) for tensor in (p, *factors)]
    flat = _flat(tensors)
    if flat is None or tensors[0].device.type != "cpu":
        return step % PERIOD != 0 or _agrees(p, factors)
    size = tensors[0].numel()
    if size <= WHOLE:
        return _equal(flat)
    line = 1 if size <= BY_ELEMENT else LINE
    body = size - size % (PERIOD * line)
    sample = [tensor[:body].view(-1, PERIOD, line)[:, step % PERIOD] for tensor in flat]
    return _equal(sample) and _equal([tensor[body:] for tensor in flat])


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
    """Return one-dimensional views in the order of memory, or None where there is no common one."""
    if not all(tensor.is_contiguous() for tensor in tensors):
        strides = tensors[0].stride()
        order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
        tensors = [tensor.permute(order) for tensor in tensors]
        if not all(tensor.is_contiguous() for tensor in tensors):
            return None
    return [tensor.view(-1) for tensor in tensors]


def _agrees(p: Tensor, factors: Sequence[Tensor]) -> bool:
    """Whether all of a weight is the product of its factors; compared in blocks."""
    tensors = [local(tensor) for tensor in (p, *factors)]
    flat = _flat(tensors)
    if flat is None:
        return _equal(tensors)
    return all(_equal(block) for block in zip(*(t.split(BLOCK) for t in flat), strict=True))


def _equal(tensors: Sequence[Tensor]) -> bool:
    weight, *factors = tensors
    return torch.equal(product(factors).to(weight.dtype), weight)
