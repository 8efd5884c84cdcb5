"""SNIP: connection sensitivity on one batch, before training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.frontier.masks import keep_largest, prunable
from benchmarks.frontier.method import Method


def sensitivities(model: nn.Module, inputs: Tensor, targets: Tensor, loss) -> dict[str, Tensor]:
    r"""Return :math:`|g \cdot w|` of every weight: how much the loss feels it go.

    Args:
        model: Left as it is.
        inputs: A batch.
        targets: Its labels.
        loss: Of outputs and targets.
    """
    weights = prunable(model)
    gradients = torch.autograd.grad(loss(model(inputs), targets), list(weights.values()))
    return {
        name: (p.detach() * g).abs() for (name, p), g in zip(weights.items(), gradients, strict=True)
    }


class SNIP(Method):
    """One shot at the start, by sensitivity on one batch."""

    source = "Lee, Ajanthan, Torr, ICLR 2019, arXiv 1810.02340"
    deviation = "one batch of the size that is trained with; torch's default init"
    serves_all = False

    def before(self, batches, loss) -> None:
        inputs, targets = next(batches)
        scores = sensitivities(self.model, inputs, targets, loss)
        self.hold(keep_largest(scores, self.at_start()))

    def cut(self, sparsity: float) -> None:
        """Nothing: the network has been sparse from the start."""
