"""Weights that go by lot."""

from __future__ import annotations

import torch

from benchmarks.frontier.masks import keep_largest, prunable
from benchmarks.frontier.method import Method


class RandomPruning(Method):
    """Before training, uniformly over all layers together: what any method must beat."""

    source = "the usual baseline"
    serves_all = False

    def before(self, batches, loss) -> None:
        generator = torch.Generator().manual_seed(self.settings.seed)
        scores = {
            name: torch.rand(p.shape, generator=generator).to(p.device)
            for name, p in prunable(self.model).items()
        }
        self.hold(keep_largest(scores, self.at_start()))

    def cut(self, sparsity: float) -> None:
        """Nothing: the network has been sparse from the start."""
