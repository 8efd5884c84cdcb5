"""Network slimming: L1 on the scales of BatchNorms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from benchmarks.structured.method import Method
from benchmarks.structured.units import Group, Units


class NetworkSlimming(Method):
    r"""SGD on the loss plus :math:`\lambda \sum |\gamma|`, cut by :math:`|\gamma|`, then fine-tuned."""

    title = "network slimming"
    source = "Liu et al., ICCV 2017, arXiv 1708.06519"
    finetunes = True

    @classmethod
    def lacks(cls, units: Sequence[Units]) -> str | None:
        return None if all(unit.scale for unit in units) else "no BatchNorm"

    def optimizer(self, model: nn.Module) -> Optimizer:
        sgd = super().optimizer(model)

        def add_gradient(*_: Any) -> None:
            for group in self.groups():
                scale = model.get_parameter(group.name)
                if scale.grad is not None:
                    scale.grad += self.settings.strength * scale.detach().sign()

        sgd.register_step_pre_hook(add_gradient)
        return sgd

    def groups(self) -> list[Group]:
        return [Group(unit.scale, None) for unit in self.units if unit.scale]
