"""The networks of `benchmarks.structured`: which of their weights share gates, and what may be left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.models import LENET_300_100, lenet5, mlp
from dwf_optim.flops import flops_by_layer

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A network for flat images.

    Attributes:
        data: What it learns: "MNIST" or scikit-learn's "digits".
        features: Pixels of an image.
        build: From a seed.
        structures: Of its weight matrices, in order; None is left to the base.
        of_widths: Builds it with other numbers of groups alive, in the same order.
        widths: Those of the full one.
        what: What the groups are.
    """

    data: str
    features: int
    build: Callable[[int], nn.Sequential]
    structures: tuple[str | None, ...]
    of_widths: Callable[[Sequence[int]], nn.Sequential]
    widths: tuple[int, ...]
    what: str

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return parameter groups: weights by structure, and all else without factors."""
        weights = [p for p in model.parameters() if p.ndim >= 2]
        gated = [
            {"params": [p], "structure": structure}
            for p, structure in zip(weights, self.structures, strict=True)
            if structure is not None
        ]
        held = {p for group in gated for p in group["params"]}
        rest = [p for p in model.parameters() if p not in held]
        return [*gated, {"params": rest, "depth": 1, "penalty": 0.0}]

    def inputs(self, widths: Sequence[int], batch: int) -> torch.Tensor:
        """Return images for a network of these widths: whole ones, or the living pixels only."""
        return torch.zeros(batch, self.features if self.structures[0] == "filter" else widths[0])

    def flops(self, widths: Sequence[int]) -> int:
        """Count the operations of these widths on one image; 0 where a layer is gone."""
        if 0 in widths:
            return 0
        return sum(flops_by_layer(self.of_widths(widths), self.inputs(widths, 1)).values())


def _lenet5(widths: Sequence[int]) -> nn.Sequential:
    first, second, hidden = widths
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, first, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * second, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)),
    ).eval()


def _digits(widths: Sequence[int]) -> nn.Sequential:
    first, second, hidden = widths
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, first, 3), nn.ReLU(), nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4 * second, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)),
    )


def _seeded(seed: int, build: Callable[[], nn.Sequential]) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


NETWORKS = {
    "small convolutions": Network(
        "digits",
        64,
        lambda seed: _seeded(seed, lambda: _digits((16, 32, 64))),
        ("filter", "filter", "neuron", None),
        lambda widths: _digits(widths).eval(),
        (16, 32, 64),
        "filters, filters, neurons",
    ),
    "LeNet-5": Network(
        "MNIST",
        784,
        lambda seed: nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *lenet5(seed)),
        ("filter", "filter", "neuron", None),
        _lenet5,
        (20, 50, 500),
        "filters, filters, neurons",
    ),
    "LeNet-300-100": Network(
        "MNIST",
        784,
        lambda seed: mlp(LENET_300_100, seed),
        ("input", "input", "input"),
        lambda widths: mlp((*widths, CLASSES), 0).eval(),
        LENET_300_100[:-1],
        "pixels, neurons, neurons",
    ),
}
