r"""How far floating-point arithmetic may be from exact: what the assertions' bounds are made of.

Every operation is exact but for a relative error of at most ``u``, half the spacing of numbers at 1;
``n`` of them after one another are off by at most :math:`\gamma_n = n u / (1 - n u)` (Higham,
"Accuracy and Stability of Numerical Algorithms", lemma 3.1). A result below the smallest normal number
may be off by as much as that number, since it may be flushed to zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# torch's powers are off by 2 ulp at most, which is 4 u, besides what the exponent's own rounding does.
POWER = 4


def gamma(roundings: float, dtype: torch.dtype) -> float:
    r"""Bound the relative error of that many operations: :math:`\gamma_n = n u / (1 - n u)`.

    Args:
        roundings: ``n >= 0``, operations that follow one another.
        dtype: In which they are done.

    Returns:
        The bound.

    Raises:
        ValueError: If there are so many that nothing can be said.
    """
    share = roundings * torch.finfo(dtype).eps / 2
    if share >= 1:
        raise ValueError(
            f"{roundings:g} roundings in {dtype} leave no digit certain: test fewer elements, or a "
            "wider dtype"
        )
    return share / (1 - share)


def roundings_of_power(base: Tensor) -> float:
    r"""Count the roundings of ``base ** (1 / D)`` or ``base ** (2 / D)``, in units of ``u``.

    The power itself is off by 4 u. Its exponent ``x`` is rounded to ``x (1 + u)``, which multiplies the
    result by :math:`b^{x u} = e^{x u \ln b}`; as ``x <= 1``, that are at most ``|ln b|`` u more.

    Args:
        base: Any shape; zeros have exact powers.

    Returns:
        The largest count of all elements.
    """
    positive = base.detach().double().abs()
    positive = positive[(positive > 0) & positive.isfinite()]
    return POWER + (float(positive.log().abs().max()) if positive.numel() else 0.0)


def roundings_of_split(depth: int, dtype: torch.dtype) -> int:
    r"""Count the roundings between a weight and the product of factors that roots have split it into.

    Each of the ``D`` factors is a root, :math:`|w|^{1/D}`, off by ``(4 + |ln w| / D) u``
    (as any power), and the product rounds ``D - 1`` times: ``5 D - 1 + |ln w|``. ``|ln w|`` is
    at most 89 in float32, 710 in float64: that of the largest or smallest normal number.

    Args:
        depth: ``D``.
        dtype: Of the factors.

    Returns:
        The count, for any normal weight.
    """
    info = torch.finfo(dtype)
    return 5 * depth - 1 + math.ceil(max(math.log(info.max), -math.log(info.tiny)))


def underflow(numbers: Sequence[Tensor]) -> Tensor:
    r"""Bound what underflow can cost a product of numbers, in any order.

    An intermediate result that underflows is off by at most the smallest normal number, and is then
    multiplied by some of the others: by :math:`\prod_k \max(1, |x_k|)` at most. There are as many
    intermediate results as numbers, at most.

    Args:
        numbers: Tensors of one shape and dtype.

    Returns:
        The bound, elementwise in float64.
    """
    return len(numbers) * torch.finfo(numbers[0].dtype).tiny * majorant(numbers)


def majorant(numbers: Sequence[Tensor]) -> Tensor:
    r"""Multiply :math:`\max(1, |x_k|)`, which no partial product exceeds; elementwise in float64."""
    result = numbers[0].detach().double().abs().clamp(min=1)
    for number in numbers[1:]:
        result = result * number.detach().double().abs().clamp(min=1)
    return result
