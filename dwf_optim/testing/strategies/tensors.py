"""Strategies of tensors: weights, and factors that can be multiplied and squared in their dtype."""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from hypothesis import strategies as st
from torch import Tensor

from dwf_optim.testing.strategies.numbers import Shape, depths, shapes

# Bits of the numbers to draw. bfloat16 has float32's range, and its bounds below are representable in
# both.
_WIDTHS: dict[torch.dtype, Literal[16, 32, 64]] = {
    torch.float16: 16,
    torch.bfloat16: 32,
    torch.float32: 32,
    torch.float64: 64,
}


def weights(
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    zeros: bool = True,
    extremes: bool = True,
) -> st.SearchStrategy[Tensor]:
    """Draw a weight: exact zeros, usual, tiny and huge numbers of either sign, in any mixture.

    Args:
        shape: Of the tensor, or a strategy of shapes. Default: `shapes`.
        dtype: float16, bfloat16, float32 or float64.
        zeros: Whether elements may be zero.
        extremes: Whether they may leave [2^-10, 1] in magnitude, down to the smallest normal number and
            up to half the largest.

    Returns:
        A strategy of tensors, without subnormal numbers, NaN and infinity.

    Raises:
        TypeError: For another dtype.
    """
    _exponents(dtype)  # refuses a wrong dtype here, not at the first draw
    return _strategy_of_shapes(shape).flatmap(lambda size: _weight(size, dtype, zeros, extremes))


def factors(
    depth: int | st.SearchStrategy[int] | None = None,
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    balanced: bool | None = None,
    zeros: bool = True,
) -> st.SearchStrategy[list[Tensor]]:
    r"""Draw the factors of a weight.

    Magnitudes lie between :math:`t^{1/2D}` and :math:`t^{-1/2D}`, with t about the smallest normal
    number: no product of any of them, of squares of them, or of all and another factor, leaves the
    range.

    Args:
        depth: ``D``, or a strategy of depths. Default: `depths`.
        shape: Of each factor, or a strategy of shapes. Default: `shapes`.
        dtype: float16, bfloat16, float32 or float64.
        balanced: True for factors of exactly one magnitude (of any signs), False for independent ones,
            None for either.
        zeros: Whether elements may be zero; those of balanced factors all at once.

    Returns:
        A strategy of lists of ``D`` tensors.

    Raises:
        TypeError: For another dtype.
    """
    _exponents(dtype)
    counts = depths() if depth is None else st.just(depth) if isinstance(depth, int) else depth
    kinds = st.booleans() if balanced is None else st.just(balanced)
    return _factors(counts, _strategy_of_shapes(shape), kinds, dtype, zeros)


@st.composite
def _factors(
    draw: st.DrawFn,
    counts: st.SearchStrategy[int],
    sizes: st.SearchStrategy[Shape],
    kinds: st.SearchStrategy[bool],
    dtype: torch.dtype,
    zeros: bool,
) -> list[Tensor]:
    depth, size = draw(counts), draw(sizes)
    if not draw(kinds):
        return [draw(_factor(size, depth, dtype, zeros)) for _ in range(depth)]
    root = draw(_factor(size, depth, dtype, zeros)).abs()
    return [root * draw(_signs(size, dtype)) for _ in range(depth)]


# Cached, because to build a strategy takes longer than to draw from it.
@functools.lru_cache(maxsize=1024)
def _weight(size: Shape, dtype: torch.dtype, zeros: bool, extremes: bool) -> st.SearchStrategy[Tensor]:
    low, high = _exponents(dtype)
    reaches = [(-10, 0), (low, low // 2), (high // 2, high)] if extremes else [(-10, 0)]
    return _tensors(size, _numbers(reaches, dtype, zeros), dtype)


@functools.lru_cache(maxsize=1024)
def _factor(size: Shape, depth: int, dtype: torch.dtype, zeros: bool) -> st.SearchStrategy[Tensor]:
    low, high = _exponents(dtype)
    reach = min(-low, high) // (2 * depth)
    return _tensors(size, _numbers([(-1, 1), (-reach, reach)], dtype, zeros), dtype)


@functools.lru_cache(maxsize=1024)
def _signs(size: Shape, dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return _tensors(size, st.sampled_from([1.0, -1.0]), dtype)


def _exponents(dtype: torch.dtype) -> tuple[int, int]:
    """Return the powers of two between which a dtype has its normal numbers, inclusive."""
    if dtype not in _WIDTHS:
        raise TypeError(f"dtype must be one of {list(_WIDTHS)}, got {dtype}")
    info = torch.finfo(dtype)
    return round(math.log2(info.tiny)), math.frexp(info.max)[1] - 1


def _numbers(
    reaches: list[tuple[int, int]], dtype: torch.dtype, zeros: bool
) -> st.SearchStrategy[float]:
    """Draw numbers between powers of two in magnitude; they shrink towards positive and simple."""
    options: list[st.SearchStrategy[float]] = [st.just(0.0)] if zeros else []
    for low, high in reaches:
        for sign in (1.0, -1.0):
            ends = sorted((sign * 2.0**low, sign * 2.0**high))
            options.append(st.floats(*ends, width=_WIDTHS[dtype], allow_subnormal=False))
    return st.one_of(options)


def _tensors(
    size: Shape, numbers: st.SearchStrategy[float], dtype: torch.dtype
) -> st.SearchStrategy[Tensor]:
    count = math.prod(size)
    lists = st.lists(numbers, min_size=count, max_size=count)
    # Through float64: torch refuses to make float16 of what it would have to round.
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64).to(dtype).view(size))


def _strategy_of_shapes(shape: Shape | st.SearchStrategy[Shape] | None) -> st.SearchStrategy[Shape]:
    if shape is None:
        return shapes()
    return st.just(shape) if isinstance(shape, tuple) else shape
