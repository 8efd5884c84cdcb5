"""p-norm decoupled weight decay."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.frontier.masks import prunable
from benchmarks.frontier.method import Method

# Least |w| in the decay's factor: with it the factor is 0 in float32 all the same.
TINY = 1e-30


def decayed(weight: Tensor, sizes: Tensor, amount: float, p: float) -> Tensor:
    r"""Take one decay step of :math:`\frac{1}{p} \|w\|_p^p`, implicitly.

    .. math:: w' = \frac{\tilde w}{1 + a |w|^{p - 2}}

    For p = 2 it is ``w / (1 + a)``; small p takes small weights to zero fast, and large ones hardly.

    Args:
        weight: After the gradient's step.
        sizes: ``|w|`` before it, same shape.
        amount: ``a``, the learning rate times the decay.
        p: In (0, 2].
    """
    return weight / (1 + amount * sizes.clamp_min(TINY).pow(p - 2))


class PWD1(Method):
    """Decay by the p-norm after each step of SGD, apart from its gradient; p = 2/D is DWF's penalty."""

    source = "Outmezguine and Levi, 2024, arXiv 2404.10824 (pWD)"
    deviation = (
        "on SGD with momentum; cut by magnitude and trained on without decay for the last fifth of the "
        "steps"
    )
    finetune = 0.2
    strengths = (1e-3, 3e-3, 1e-2, 3e-2)
    p: ClassVar[float] = 1.0

    def __init__(self, model, settings) -> None:
        super().__init__(model, settings)
        self.strength = settings.strength
        self.sizes: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_step(self) -> None:
        self.sizes = {name: p.abs() for name, p in prunable(self.model).items()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        amount = self.optimizer.param_groups[0]["lr"] * self.strength
        if amount:
            for name, weight in prunable(self.model).items():
                weight.copy_(decayed(weight, self.sizes[name], amount, self.p))
        super().after_step(step)

    def cut(self, sparsity: float) -> None:
        super().cut(sparsity)
        self.strength = 0.0


class PWDTwoThirds(PWD1):
    """p = 2/3, the penalty of depth 3."""

    p = 2 / 3


class PWDHalf(PWD1):
    """p = 1/2, the penalty of depth 4."""

    p = 0.5
