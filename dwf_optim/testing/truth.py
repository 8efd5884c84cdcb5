"""The laws in float64, said anew: nothing here imports the rest of dwf_optim, which it judges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def exact(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return float64 copies without autograd."""
    return [tensor.detach().double().clone() for tensor in tensors]


def product(factors: Sequence[Tensor]) -> Tensor:
    """Multiply from the first to the last, differentiably: ``f_1 * ... * f_D``."""
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def others(factors: Sequence[Tensor], d: int) -> Tensor:
    """Multiply all factors but number ``d``, one after the other; ones if there is no other."""
    rest = [factor for number, factor in enumerate(factors) if number != d]
    return product(rest) if rest else torch.ones_like(factors[d])


def quasi_norm(weight: Tensor, depth: int) -> Tensor:
    """Sum ``|w|^{2/D}``."""
    return weight.abs().pow(2 / depth).sum()


def factor_penalty(factors: Sequence[Tensor], penalty: float) -> Tensor:
    """Sum ``lambda / D ||f_d||^2`` over the factors, differentiably."""
    return penalty / len(factors) * torch.stack([factor.square().sum() for factor in factors]).sum()


def balanced(weight: Tensor, depth: int) -> list[Tensor]:
    """Split into factors of exactly one magnitude, the sign on the last."""
    root = weight.abs().pow(1 / depth)
    return [root.clone() for _ in range(depth - 1)] + [root.copysign(weight)]
