"""L1 by the subgradient, with plain SGD."""

from __future__ import annotations

import torch

from benchmarks.frontier.masks import prunable
from benchmarks.frontier.method import Method


class L1(Method):
    """SGD on the loss plus ``strength * ||w||_1``: the subgradient, which makes no exact zeros."""

    source = "the usual vanilla baseline; Kolb et al., ICLR 2025, compare with it"
    deviation = "cut by magnitude and trained on without penalty for the last fifth of the steps"
    finetune = 0.2
    strengths = (5e-5, 1e-4, 2e-4, 5e-4)

    def __init__(self, model, settings) -> None:
        super().__init__(model, settings)
        self.strength = settings.strength

    @torch.no_grad()
    def before_step(self) -> None:
        for p in prunable(self.model).values():
            if p.grad is not None:
                p.grad.add_(p.sign(), alpha=self.strength)

    def cut(self, sparsity: float) -> None:
        super().cut(sparsity)
        self.strength = 0.0
