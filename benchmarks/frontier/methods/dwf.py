"""Deep weight factorization, through the public API alone."""

from __future__ import annotations

from typing import ClassVar

from torch.optim import Optimizer

from benchmarks.frontier.method import Method
from dwf_optim import DWFOptimizer, sparsify


class DWF3(Method):
    """Factors under L2, cut by magnitude, then trained on without penalty."""

    source = "Kolb, Weber, Bischl, Rügamer, ICLR 2025, arXiv 2502.02496"
    deviation = (
        "cut to the compression instead of at float32's eps, and trained on without penalty for the "
        "last fifth of the steps; weights keep their initial values"
    )
    finetune = 0.2
    strengths = (1e-4, 2e-4, 5e-4, 1e-3)
    depth: ClassVar[int] = 3

    def make_optimizer(self) -> Optimizer:
        return DWFOptimizer(
            self.model.parameters(),
            lr=self.settings.lr,
            momentum=self.settings.momentum,
            penalty=self.settings.strength,
            depth=self.depth,
            seed=self.settings.seed,
        )

    def cut(self, sparsity: float) -> None:
        sparsify(self.model, self.optimizer, sparsity=sparsity)
        for group in self.optimizer.param_groups:
            group["penalty"] = 0.0


class DWF2(DWF3):
    """Depth 2, which is spred: L1."""

    source = "Ziyin and Wang, ICML 2023 (spred); Kolb et al., ICLR 2025"
    depth = 2


class DWF4(DWF3):
    """Depth 4: L_{1/2}."""

    depth = 4
