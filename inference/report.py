"""What a compiled model consists of: its layers, what computes them, and how long that takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.graph import Conv2d, Graph, Linear, TorchOp
from inference.origin import Origin, OriginalLayer
from inference.report_text import plain_table, rich_table
from inference.runner import Runner

REMOVED = "removed"


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: Path of the module in the model.
        kind: Of the layer, as "Linear"; for an operator that torch runs its name.
        shape: Of the weight, without the units that were removed; empty where there is none.
        nonzero: Weights that are not zero.
        kernels: What computes it, by batch size; "removed" for a layer that is constant.
        original: The layer before units were removed; None if it is not known.
        bytes: Of its weights as the kernel holds them in memory, by batch size.
        microseconds: By batch size, alone and without the time to get there; empty if not measured.
        dense_microseconds: The same of torch's dense layer, of the shape that is left.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    nonzero: int
    kernels: Mapping[int, str]
    original: OriginalLayer | None = None
    bytes: Mapping[int, int] = field(default_factory=dict)
    microseconds: Mapping[int, float] = field(default_factory=dict)
    dense_microseconds: Mapping[int, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Weights of the layer."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.nonzero / self.total if self.total else 0.0

    @property
    def units_removed(self) -> int:
        """Units or filters that are no longer there."""
        if self.original is None:
            return 0
        return self.original.shape[0] - (self.shape[0] if self.shape else 0)

    @property
    def speedup(self) -> Mapping[int, float]:
        """How many times faster than torch's dense layer, by batch size; empty if not measured."""
        return {size: t / self.microseconds[size] for size, t in self.dense_microseconds.items()}


@dataclass(frozen=True)
class Report:
    """All layers, in the order in which they run; then those that were removed.

    Printed, it is a table; rich prints it as one of its own.

    Attributes:
        layers: The layers.
        value_bytes: Of the weights that are not zero, in the dtype that they are kept in.
        origin: What is known of the model before.
        whole: Microseconds of a call by batch size and by what computes it: "engine" is this model;
            "torch" and, where it is installed, "onnxruntime" compute the dense one. Empty if not
            measured.
    """

    layers: tuple[LayerReport, ...]
    value_bytes: int
    origin: Origin | None = None
    whole: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

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
    def original_total(self) -> int:
        """Weights before units were removed; 0 if that is not known."""
        return sum(layer.original.total for layer in self.layers if layer.original)

    @property
    def original_sparsity(self) -> float:
        """Fraction of zeros before units were removed."""
        nonzero = sum(layer.original.nonzero for layer in self.layers if layer.original)
        return 1 - nonzero / self.original_total if self.original_total else 0.0

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

    def notes(self) -> list[str]:
        """Return the lines below the table."""
        lines = [self.summary()]
        if self.origin is not None:
            removed = sum(layer.units_removed for layer in self.layers)
            lines.append(
                f"before: {self.original_sparsity:.1%} of {self.original_total} weights zero; "
                f"{removed} units removed"
            )
            seen = self.origin.certificate
            lines.append(f"model and compiled model {seen}" if seen else "not compared with the model")
            if self.origin.rounding is not None:
                lines.append(f"by rounding the weights to 16 bits, outputs {self.origin.rounding}")
        for size, times in self.whole.items():
            engine = times["engine"]
            dense = [
                f"{name} {t:.1f} ({t / engine:.2f}x)" for name, t in times.items() if name != "engine"
            ]
            lines.append(f"batch {size}: {engine:.1f} µs; dense {', '.join(dense)}")
        return lines

    def __str__(self) -> str:
        return "\n".join([plain_table(_rows(self)), *self.notes()])

    def __rich__(self) -> Any:
        return rich_table(_rows(self), self.notes())

    def to_json(self) -> dict[str, Any]:
        """Return it as lists, numbers and strings."""
        layers = [
            {
                **dataclasses.asdict(layer),
                "shape": list(layer.shape),
                "original": layer.original
                and {**vars(layer.original), "shape": [*layer.original.shape]},
                "units_removed": layer.units_removed,
                **{
                    name: {str(size): value for size, value in getattr(layer, name).items()}
                    for name in ("kernels", "bytes", "microseconds", "dense_microseconds")
                },
            }
            for layer in self.layers
        ]
        return {
            "layers": layers,
            "value_bytes": self.value_bytes,
            "origin": self.origin and self.origin.to_json(),
            "whole": {str(size): dict(times) for size, times in self.whole.items()},
        }


def make_report(graph: Graph, runners: Mapping[int, Runner], origin: Origin | None = None) -> Report:
    """Describe a graph and what runs it.

    Args:
        graph: The graph.
        runners: By batch size.
        origin: Of the model before.
    """
    before = {} if origin is None else dict(origin.layers)
    layers, value_bytes = [], 0
    for node in graph.nodes:
        weight = node.weight if isinstance(node, Linear | Conv2d) else None
        nonzero = 0 if weight is None else int(weight.count_nonzero())
        value_bytes += 0 if weight is None else nonzero * weight.itemsize
        layers.append(
            LayerReport(
                node.name,
                node.target if isinstance(node, TorchOp) else type(node).__name__,
                () if weight is None else tuple(weight.shape),
                nonzero,
                {size: runner.kernel(node) for size, runner in runners.items()},
                before.pop(node.name, None),
                {size: runner.bytes(node) for size, runner in runners.items()},
            )
        )
    for name, original in before.items():
        layers.append(LayerReport(name, original.kind, (), 0, dict.fromkeys(runners, REMOVED), original))
    return Report(tuple(layers), value_bytes, origin)


def _rows(report: Report) -> list[tuple[str, ...]]:
    timed = any(layer.microseconds for layer in report.layers)
    head = ["layer", "kind", "weight", "zeros", "before", "zeros", "bytes", "kernel by batch size"]
    rows = [(*head, "µs", "dense/this") if timed else tuple(head)]
    for layer in report.layers:
        original = layer.original
        row = [
            layer.name,
            layer.kind,
            "x".join(map(str, layer.shape)),
            f"{layer.sparsity:.1%}" if layer.shape else "",
            "x".join(map(str, original.shape)) if original else "",
            f"{1 - original.nonzero / max(1, original.total):.1%}" if original else "",
            _by_size(layer.bytes, "{}"),
            _by_size(layer.kernels, "{}"),
        ]
        if timed:
            row += [_by_size(layer.microseconds, "{:.1f}"), _by_size(layer.speedup, "{:.2f}x")]
        rows.append(tuple(row))
    return rows


def _by_size(values: Mapping[int, Any], form: str) -> str:
    """Write a value for each batch size; once, if all are the same."""
    texts = {size: form.format(value) for size, value in values.items() if value not in (0, "")}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{size}: {text}" for size, text in texts.items())
