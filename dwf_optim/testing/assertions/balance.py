"""Factors of one magnitude."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.testing import truth
from dwf_optim.testing.assertions.inputs import check_factors
from dwf_optim.testing.counterexample import check_close, name_factors
from dwf_optim.testing.rounding import gamma, roundings_of_split


def assert_balanced(factors: Sequence[Tensor], *, roundings: float | None = None) -> None:
    r"""Assert that all factors of each weight have one magnitude: :math:`|f_1| = \dots = |f_D|`.

    Balanced factors are the cheapest of their product, and gradient flow keeps them balanced.

    Args:
        factors: ``D`` tensors of one shape and dtype.
        roundings: How many roundings they may be apart. Default: those of a split by roots whose last
            factor solves the product, :math:`f_D = w / (f_1 \cdots f_{D-1})`; ``0`` asks for equal bits.

    Raises:
        AssertionError: With the factors and the magnitude that is farthest off.
        TypeError: If factors are not floating-point tensors.
        ValueError: If they differ in shape or dtype.

    The default bound: each root is off by ``(4 + |ln w| / D) u``; the last factor collects those of
    ``D - 1`` roots, and ``D - 1`` operations: :math:`\gamma_{5 D - 1 + |\ln w|}`, as the product of a
    split (`dwf_optim.testing.roundings_of_split`). Magnitudes are compared with their geometric mean, in
    float64, which is as far off as they are, hence twice that; and by the smallest normal number, for
    what underflows.
    """
    factors = check_factors(factors)
    dtype = factors[0].dtype
    count = roundings_of_split(len(factors), dtype) if roundings is None else roundings
    sizes = [factor.abs() for factor in truth.exact(factors)]
    if count == 0:
        expected, allowed = sizes[0], torch.zeros_like(sizes[0])
    else:
        # Roots before the product, which might leave even float64's range.
        expected = truth.product([size.pow(1 / len(sizes)) for size in sizes])
        allowed = 2 * gamma(count, dtype) * expected + torch.finfo(dtype).tiny
    for d, size in enumerate(sizes, 1):
        law = f"factor f_{d} does not have the magnitude of the others"
        check_close(law, size, expected, allowed, name_factors(factors))
