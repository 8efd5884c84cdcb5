"""SynFlow: synaptic flow, pruned iteratively and without data, before training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.frontier.masks import Masks, apply_, keep_largest, prunable
from benchmarks.frontier.method import Method

ROUNDS = 100


def flow(model: nn.Module, shape: torch.Size, masks: Masks) -> dict[str, Tensor]:
    r"""Return :math:`|w \cdot \partial R / \partial w|` with R the sum of outputs to an input of ones.

    Every parameter is replaced by its magnitude, and the network is in evaluation mode. In float64,
    because R is a product over layers.

    Args:
        model: Left as it is.
        shape: Of one input.
        masks: What is still there.
    """
    linear = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for p in linear.parameters():
            p.abs_()
    apply_(masks, linear)
    weights = prunable(linear)
    ones = torch.ones((1, *shape), dtype=torch.float64, device=next(linear.parameters()).device)
    gradients = torch.autograd.grad(linear(ones).sum(), list(weights.values()))
    return {name: p.detach() * g for (name, p), g in zip(weights.items(), gradients, strict=True)}


def synflow_masks(model: nn.Module, shape: torch.Size, sparsity: float, rounds: int) -> Masks:
    """Prune in rounds, the density falling exponentially to ``1 - sparsity``."""
    masks: Masks = {}
    for number in range(1, rounds + 1):
        density = (1 - sparsity) ** (number / rounds)
        masks = keep_largest(flow(model, shape, masks), 1 - density)
    return masks


class SynFlow(Method):
    """A hundred rounds at the start; by conservation of the flow no layer collapses early."""

    source = "Tanaka, Kunin, Yamins, Ganguli, NeurIPS 2020, arXiv 2006.05467"
    deviation = "flow in float64; torch's default init; biases take part in the flow, by magnitude"
    serves_all = False

    def before(self, batches, loss) -> None:
        inputs, _ = next(batches)
        self.hold(synflow_masks(self.model, inputs.shape[1:], self.at_start(), ROUNDS))

    def cut(self, sparsity: float) -> None:
        """Nothing: the network has been sparse from the start."""
