"""What sparsification did: a report that prints as a table."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any


class _Counted:
    """Sparsity and compression from two counts."""

    total: int
    nonzero: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, 0 to 1."""
        return 1 - self.nonzero / self.total if self.total else 0.0

    @property
    def compression_ratio(self) -> float:
        """All weights over nonzero weights; inf if none is left."""
        return self.total / self.nonzero if self.nonzero else math.inf

    def _counts(self) -> dict[str, Any]:
        ratio = self.compression_ratio
        return {
            "total": self.total,
            "nonzero": self.nonzero,
            "sparsity": self.sparsity,
            # JSON has no infinity.
            "compression_ratio": ratio if math.isfinite(ratio) else None,
        }


@dataclass(frozen=True)
class LayerReport(_Counted):
    """One tensor.

    Attributes:
        name: As in ``model.named_parameters()``.
        shape: The tensor's.
        total: Number of weights.
        nonzero: Number of weights that are not zero.
        protected: How many of those the rule would have set to zero, and a floor
            (``min_nonzero_per_unit``, ``min_density``) has kept.
        groups: Number of groups of weights that share gates; None where none do.
        groups_alive: Those of them that are not zero.
        flops: Operations of its layer in one forward call, with nothing zero; None if no example was
            given, or it belongs to no linear or convolution layer.
    """

    name: str
    shape: tuple[int, ...]
    total: int
    nonzero: int
    protected: int = 0
    groups: int | None = None
    groups_alive: int | None = None
    flops: int | None = None

    @property
    def flops_alive(self) -> int | None:
        """Operations without the groups that are zero; single zeros save a dense layer nothing."""
        if self.flops is None or not self.groups or self.groups_alive is None:
            return self.flops
        return self.flops * self.groups_alive // self.groups

    def _groups(self) -> dict[str, Any]:
        names = ("groups", "groups_alive", "flops", "flops_alive")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class SparsityReport(_Counted):
    """All factorized tensors; biases and other dense tensors are not counted.

    Attributes:
        layers: One entry per tensor, in the model's order.
        threshold: The largest magnitude that was set to zero by this call's rule.
        metric_before: What ``evaluate`` returned before, if it was given.
        metric_after: What it returned after.
        flops: Operations of all linear and convolution layers in one forward call, with nothing zero;
            None if no example was given.
    """

    layers: tuple[LayerReport, ...]
    threshold: float
    metric_before: float | None = None
    metric_after: float | None = None
    flops: int | None = None

    @property
    def flops_alive(self) -> int | None:
        """Operations without the groups that are zero, of each layer's own groups only.

        A layer that is left fewer inputs by the one before saves more than that, in a model that is
        really made smaller.
        """
        if self.flops is None:
            return None
        saved = ((layer.flops or 0) - (layer.flops_alive or 0) for layer in self.layers)
        return self.flops - sum(saved)

    @property
    def total(self) -> int:  # type: ignore[override]
        """Number of weights."""
        return sum(layer.total for layer in self.layers)

    @property
    def nonzero(self) -> int:  # type: ignore[override]
        """Number of weights that are not zero."""
        return sum(layer.nonzero for layer in self.layers)

    @property
    def protected(self) -> int:
        """Number of weights that a floor has kept."""
        return sum(layer.protected for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; a compression ratio of infinity is None."""
        return {
            **self._counts(),
            "threshold": self.threshold,
            "metric_before": self.metric_before,
            "metric_after": self.metric_after,
            "protected": self.protected,
            **({} if self.flops is None else {"flops": self.flops, "flops_alive": self.flops_alive}),
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    **layer._counts(),
                    "protected": layer.protected,
                    **layer._groups(),
                }
                for layer in self.layers
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Return a table: a line per tensor, and the total."""
        header: tuple[str, ...] = ("layer", "shape", "weights", "nonzero", "sparsity", "compression")
        rows: list[tuple[str, ...]] = [
            (layer.name, "x".join(map(str, layer.shape)), *_cells(layer)) for layer in self.layers
        ]
        rows.append(("total", "", *_cells(self)))
        if any(layer.groups is not None for layer in self.layers):
            header = (*header, "groups alive")
            alive = [_alive(layer) for layer in self.layers]
            rows = [(*row, cell) for row, cell in zip(rows, [*alive, ""], strict=True)]
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

        def line(row: tuple[str, ...]) -> str:
            left = "  ".join(cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False))
            right = "  ".join(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))
            return f"{left}  {right}".rstrip()

        rule = "-" * len(line(header))
        lines = [line(header), rule, *map(line, rows[:-1]), rule, line(rows[-1])]
        lines.append(f"threshold {self.threshold:.3g}")
        if self.flops is not None:
            left = f"{self.flops_alive:,} without the groups that are zero"
            lines.append(f"FLOPs {self.flops:,} -> {left}")
        spared = [f"{layer.protected:,} of {layer.name}" for layer in self.layers if layer.protected]
        if spared:
            lines.append(f"kept by min_nonzero_per_unit or min_density: {', '.join(spared)}")
        empty = [layer.name for layer in self.layers if layer.total and not layer.nonzero]
        if empty:
            lines.append(f"empty, so that nothing passes: {', '.join(empty)}")
        if self.metric_before is not None and self.metric_after is not None:
            lines.append(f"metric {self.metric_before:.6g} -> {self.metric_after:.6g}")
        return "\n".join(lines)


def _alive(layer: LayerReport) -> str:
    return "" if layer.groups is None else f"{layer.groups_alive:,} of {layer.groups:,}"


def _cells(counted: _Counted) -> tuple[str, str, str, str]:
    return (
        f"{counted.total:,}",
        f"{counted.nonzero:,}",
        f"{counted.sparsity:.2%}",
        f"{counted.compression_ratio:.1f}",
    )
