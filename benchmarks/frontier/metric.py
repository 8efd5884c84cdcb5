"""What a network is judged by: less is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from benchmarks.data import Split
from benchmarks.training import accuracy
from benchmarks.training_runs import evaluate

# Numbers of the inputs that go through the network at once; all test images of MNIST do.
AT_ONCE = 2**23


class Metric(NamedTuple):
    """A number that is less for a better network.

    Attributes:
        name: For the tables.
        unit: For the axis; empty for none.
        of: The number, of a point of `benchmarks.frontier.trial.run`.
    """

    name: str
    unit: str
    of: Callable[[Mapping[str, Any]], float]

    def text(self, value: float) -> str:
        """Write a value as the tables have it."""
        return f"{value:.2f}" if self.unit else f"{value:.3f}"


def _bits(point: Mapping[str, Any]) -> float:
    return math.inf if point["bits"] is None else float(point["bits"])


ERROR = Metric("error", "%", lambda point: 100 * (1 - point["accuracy"]))
BITS = Metric("bits per character", "", _bits)


def metric_of(data: str) -> Metric:
    """Return what a data set is judged by."""
    return BITS if data == "text" else ERROR


def measured(model: nn.Module, split: Split) -> dict[str, Any]:
    """Measure a network.

    Args:
        model: Logits are ``[samples, classes]``, or ``[samples, symbols, places]`` for text.
        split: Targets to match.

    Returns:
        "accuracy"; for text also "bits", None where they are not finite.
    """
    if split.targets.ndim > 1:
        found = evaluate(model, split)
        return {
            "accuracy": found["accuracy"],
            "bits": found["bits"] if math.isfinite(found["bits"]) else None,
        }
    count = max(1, AT_ONCE // split.inputs[0].numel())
    parts = [
        Split(*part) for part in zip(split.inputs.split(count), split.targets.split(count), strict=True)
    ]
    hits = sum(round(accuracy(model, part) * len(part)) for part in parts)
    return {"accuracy": hits / len(split)}


def first(split: Split, count: int | None) -> Split:
    """Return a split's first samples; all for None."""
    return Split(split.inputs[:count], split.targets[:count])
