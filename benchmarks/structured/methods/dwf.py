"""Structured factorization, through the public API alone."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from benchmarks.structured.method import Method
from dwf_optim import DWFOptimizer


class DWF3(Method):
    """One gated group for each unit; all else is left to SGD. What is cut is not trained on."""

    title = "DWF, D = 3"
    source = "Kolb et al., arXiv 2509.23898 (D-Gating)"
    depth: ClassVar[int] = 3

    def optimizer(self, model: nn.Module) -> Optimizer:
        gated: list[dict[str, Any]] = [
            {"params": [model.get_parameter(group.name)], "structure": group.structure}
            for group in self.groups()
        ]
        held = {p for group in gated for p in group["params"]}
        rest = [p for p in model.parameters() if p not in held]
        return DWFOptimizer(
            [*gated, {"params": rest, "depth": 1, "penalty": 0.0}],
            lr=self.settings.lr,
            momentum=self.settings.momentum,
            penalty=self.settings.strength,
            depth=self.depth,
            seed=self.settings.seed,
        )


class DWF2(DWF3):
    """Depth 2: the group lasso's penalty."""

    title = "DWF, D = 2"
    depth = 2


class DWF4(DWF3):
    """Depth 4: the sum of roots of norms."""

    title = "DWF, D = 4"
    depth = 4


class FinetunedDWF3(DWF3):
    """The same with the baselines' epochs of fine-tuning."""

    title = "DWF, D = 3, fine-tuned"
    finetunes = True
    finetune_rates = (0.1,)
