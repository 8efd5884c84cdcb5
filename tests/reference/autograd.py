"""Slow, obvious truth: factors as leaf parameters, the penalty in the loss, everything by autograd.

Nothing here imports dwf_optim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Loss = Callable[[Sequence[Tensor]], Tensor]


def multiply(factors: Sequence[Tensor]) -> Tensor:
    """f_1 * ... * f_D, from the left."""
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result


def leave_one_out(factors: Sequence[Tensor]) -> list[Tensor]:
    """For every factor the product of the others, one multiplication at a time."""
    products = []
    for left_out in range(len(factors)):
        result = torch.ones_like(factors[0])
        for index, factor in enumerate(factors):
            if index != left_out:
                result = result * factor
        products.append(result)
    return products


def quasi_norm(weight: Tensor, depth: int) -> float:
    """sum |w|^(2/D), in Python's floats."""
    return sum(abs(w) ** (2 / depth) for w in weight.double().flatten().tolist())


def factor_penalty(factors: Sequence[Tensor]) -> Tensor:
    """(1/D) sum_d ||f_d||^2, differentiable."""
    return sum((factor**2).sum() for factor in factors) / len(factors)


def gradients(factors: Sequence[Tensor], upstream: Tensor, penalty: float) -> list[Tensor]:
    """Gradients of <upstream, prod f> + lambda/D sum ||f_d||^2 by each factor."""
    leaves = [factor.detach().clone().requires_grad_() for factor in factors]
    objective = (upstream * multiply(leaves)).sum() + penalty * factor_penalty(leaves)
    return list(torch.autograd.grad(objective, leaves))


class ExplicitFactors:
    """A run in which the factors are the parameters and the base optimizer knows nothing."""

    def __init__(
        self,
        factors: Sequence[Sequence[Tensor]],
        loss: Loss,
        penalty: float,
        base: type[Optimizer],
        **options: Any,
    ) -> None:
        self.factors = [[f.detach().clone().requires_grad_() for f in fs] for fs in factors]
        self.loss = loss
        # A maximizing base climbs, so what it climbs is the loss less the penalty.
        self.penalty = -penalty if options.get("maximize") else penalty
        self.optimizer = base([f for fs in self.factors for f in fs], **options)

    def weights(self) -> list[Tensor]:
        """The collapsed weights as they now stand."""
        return [multiply(fs) for fs in self.factors]

    def step(self) -> None:
        """One step of the base on the penalized objective."""
        self.optimizer.zero_grad()
        objective = self.loss(self.weights())
        for fs in self.factors:
            objective = objective + self.penalty * factor_penalty(fs)
        objective.backward()
        self.optimizer.step()
