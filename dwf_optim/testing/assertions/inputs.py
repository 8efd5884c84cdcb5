"""What assertions take: checked, so that a mistake in a test does not look like a broken law."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def check_factors(factors: Sequence[Tensor]) -> list[Tensor]:
    """Return factors without autograd.

    Raises:
        TypeError: If they are not floating-point tensors.
        ValueError: If there is none, or shapes or dtypes differ.
    """
    if isinstance(factors, Tensor) or not all(isinstance(factor, Tensor) for factor in factors):
        raise TypeError(f"factors must be a sequence of tensors, got {factors!r}")
    if not factors:
        raise ValueError("factors is empty: give the D factors of a weight")
    kinds = {(tuple(factor.shape), factor.dtype) for factor in factors}
    if len(kinds) > 1:
        raise ValueError(f"factors must have one shape and dtype, got {sorted(kinds, key=str)}")
    if not factors[0].is_floating_point():
        raise TypeError(f"factors must be floating-point tensors, got {factors[0].dtype}")
    return [factor.detach() for factor in factors]


def check_penalty(penalty: float) -> None:
    """Refuse a strength that is none.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if not (math.isfinite(penalty) and penalty >= 0):
        raise ValueError(f"penalty must be finite and >= 0, got {penalty}")
