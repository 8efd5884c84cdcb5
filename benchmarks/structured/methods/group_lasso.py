r"""The group lasso by its subgradient, as without factors: norms become small, and are then cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.structured.method import Method
from benchmarks.structured.units import Group
from dwf_optim.structure import grouping_of


@torch.no_grad()
def group_lasso_gradient(weight: Tensor, group: Group, penalty: float) -> Tensor:
    r"""Return :math:`\lambda w_j / \|w_j\|_2` for each group, and 0 for groups that are zero.

    Args:
        weight: The group's parameter.
        group: With a structure.
        penalty: ``lambda``.

    Returns:
        A new tensor of its shape.
    """
    assert group.structure is not None
    grouping = grouping_of(group.structure)
    view = grouping.view(weight)
    norm = torch.linalg.vector_norm(view, dim=grouping.within(view.ndim), keepdim=True)
    gradient: Tensor = (penalty * view / norm).where(norm > 0, 0)
    return gradient.reshape(weight.shape)


class GroupLasso(Method):
    r"""SGD on the loss plus :math:`\lambda \sum_j \|w_j\|_2`, cut by norm, then fine-tuned."""

    title = "group lasso"
    source = "Wen et al., NeurIPS 2016, arXiv 1608.03665"
    finetunes = True
    finetune_rates = (0.1,)

    def optimizer(self, model: nn.Module) -> Optimizer:
        sgd = super().optimizer(model)

        def add_gradient(*_: Any) -> None:
            for group in self.groups():
                weight = model.get_parameter(group.name)
                if weight.grad is not None:
                    weight.grad += group_lasso_gradient(weight, group, self.settings.strength)

        sgd.register_step_pre_hook(add_gradient)
        return sgd
