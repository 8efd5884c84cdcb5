"""Pruning of the filters with the smallest L1 norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.structured.method import Method
from benchmarks.structured.units import Group, norms


class L1Filters(Method):
    """Ordinary training; each layer loses the same share, by the L1 norm of what makes a unit."""

    title = "L1-norm filters"
    source = "Li et al., ICLR 2017, arXiv 1608.08710"
    finetunes = True

    def groups(self) -> list[Group]:
        return [unit.maker for unit in self.units]

    def scores(self, model: nn.Module) -> list[Tensor]:
        # Ranks within the layer, from 0 to 1: the lowest of all layers are then as many in each.
        sizes = [norms(model, group, order=1) for group in self.groups()]
        return [(size.argsort().argsort().to(torch.float32) + 0.5) / len(size) for size in sizes]
