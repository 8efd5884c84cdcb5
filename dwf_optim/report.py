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
    """

    name: str
    shape: tuple[int, ...]
    total: int
    nonzero: int
    protected: int = 0


@dataclass(frozen=True)
class SparsityReport(_Counted):
    """All factorized tensors; biases and other dense tensors are not counted.

    Attributes:
        layers: One entry per tensor, in the model's order.
        threshold: The largest magnitude that was set to zero by this call's rule.
        metric_before: What ``evaluate`` returned before, if it was given.
        metric_after: What it returned after.
    """

    layers: tuple[LayerReport, ...]
    threshold: float
    metric_before: float | None = None
    metric_after: float | None = None

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
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    **layer._counts(),
                    "protected": layer.protected,
                }
                for layer in self.layers
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Return a table: a line per tensor, and the total."""
        header = ("layer", "shape", "weights", "nonzero", "sparsity", "compression")
        rows = [(layer.name, "x".join(map(str, layer.shape)), *_cells(layer)) for layer in self.layers]
        rows.append(("total", "", *_cells(self)))
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

        def line(row: tuple[str, ...]) -> str:
            left = "  ".join(cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False))
            right = "  ".join(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))
            return f"{left}  {right}".rstrip()

        rule = "-" * len(line(header))
        lines = [line(header), rule, *map(line, rows[:-1]), rule, line(rows[-1])]
        lines.append(f"threshold {self.threshold:.3g}")
        spared = [f"{layer.protected:,} of {layer.name}" for layer in self.layers if layer.protected]
        if spared:
            lines.append(f"kept by min_nonzero_per_unit or min_density: {', '.join(spared)}")
        empty = [layer.name for layer in self.layers if layer.total and not layer.nonzero]
        if empty:
            lines.append(f"empty, so that nothing passes: {', '.join(empty)}")
        if self.metric_before is not None and self.metric_after is not None:
            lines.append(f"metric {self.metric_before:.6g} -> {self.metric_after:.6g}")
        return "\n".join(lines)


def _cells(counted: _Counted) -> tuple[str, str, str, str]:
    return (
        f"{counted.total:,}",
        f"{counted.nonzero:,}",
        f"{counted.sparsity:.2%}",
        f"{counted.compression_ratio:.1f}",
    )
