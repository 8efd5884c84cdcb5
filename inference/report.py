"""How a compiled model computes each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from inference.graph import Conv2d, Graph, Linear, TorchOp
from inference.runner import Runner


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: Path of the module in the model.
        kind: Of the layer, as "Linear"; for a `TorchOp` the operator.
        shape: Of the weight; empty where there is none.
        nonzero: Weights that are not zero.
        kernels: What computes it, by batch size.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    nonzero: int
    kernels: Mapping[int, str]

    @property
    def total(self) -> int:
        """Weights of the layer."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.nonzero / self.total if self.total else 0.0


@dataclass(frozen=True)
class Report:
    """All layers, in the order in which they run."""

    layers: tuple[LayerReport, ...]

    @property
    def total(self) -> int:
        """Weights of all layers."""
        return sum(layer.total for layer in self.layers)

    @property
    def nonzero(self) -> int:
        """Those that are not zero."""
        return sum(layer.nonzero for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.nonzero / self.total if self.total else 0.0

    @property
    def in_torch(self) -> list[str]:
        """Layers that torch computes at some batch size."""
        return [
            layer.name
            for layer in self.layers
            if any(kernel.startswith("torch") for kernel in layer.kernels.values())
        ]

    def summary(self) -> str:
        """Return one line."""
        torchs = len(self.in_torch)
        where = "all in the engine" if not torchs else f"{torchs} in torch"
        return f"{len(self.layers)} layers, {where}; {self.sparsity:.1%} of {self.total} weights zero"

    def __str__(self) -> str:
        rows = [("layer", "kind", "weight", "zeros", "kernel by batch size")]
        for layer in self.layers:
            kernels = ", ".join(f"{size}: {kernel}" for size, kernel in layer.kernels.items())
            shape = "x".join(map(str, layer.shape))
            rows.append(
                (layer.name, layer.kind, shape, f"{layer.sparsity:.1%}" if layer.shape else "", kernels)
            )
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self.summary()])


def make_report(graph: Graph, runners: Mapping[int, Runner]) -> Report:
    """Describe a graph and what runs it.

    Args:
        graph: The graph.
        runners: By batch size.
    """
    layers = []
    for node in graph.nodes:
        weight = node.weight if isinstance(node, Linear | Conv2d) else None
        layers.append(
            LayerReport(
                node.name,
                node.target if isinstance(node, TorchOp) else type(node).__name__,
                () if weight is None else tuple(weight.shape),
                0 if weight is None else int(weight.count_nonzero()),
                {size: runner.kernel(node) for size, runner in runners.items()},
            )
        )
    return Report(tuple(layers))
