"""What is remembered of the model that a compiled one was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.certificate import Certificate
from inference.graph import Graph, Shape


@dataclass(frozen=True)
class OriginalLayer:
    """A layer before dead units were removed.

    Attributes:
        kind: "Linear" or "Conv2d".
        shape: Of its weight.
        nonzero: Weights that were not zero, in float32.
    """

    kind: str
    shape: Shape
    nonzero: int

    @property
    def total(self) -> int:
        """Weights of the layer."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Origin:
    """The model before, and how far the compiled one is from it.

    Attributes:
        layers: Those with weights, by name.
        certificate: The model's outputs against the compiled model's; None if they were not compared.
        rounding: The outputs with weights in float32 against those with weights of 16 bits; None
            without such weights, or if they were not compared.
    """

    layers: Mapping[str, OriginalLayer]
    certificate: Certificate | None = None
    rounding: Certificate | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as lists, numbers and strings."""
        layers = {
            name: {"kind": layer.kind, "shape": list(layer.shape), "nonzero": layer.nonzero}
            for name, layer in self.layers.items()
        }
        seen = {"certificate": self.certificate, "rounding": self.rounding}
        return {
            "layers": layers,
            **{name: None if found is None else found._asdict() for name, found in seen.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        """Read what `to_json` returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            layers = {
                str(name): OriginalLayer(
                    str(layer["kind"]), tuple(int(n) for n in layer["shape"]), int(layer["nonzero"])
                )
                for name, layer in data["layers"].items()
            }
            return cls(layers, _certificate(data["certificate"]), _certificate(data["rounding"]))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no origin of a model: {data!r}") from error


def _certificate(data: Mapping[str, Any] | None) -> Certificate | None:
    if data is None:
        return None
    return Certificate(
        float(data["max_difference"]),
        float(data["scale"]),
        int(data["batches"]),
        float(data["normwise"]),
    )


def original_layers(graph: Graph) -> dict[str, OriginalLayer]:
    """Describe the layers with weights.

    Args:
        graph: As captured.
    """
    return {
        node.name: OriginalLayer(
            type(node).__name__, tuple(node.weight.shape), int(node.weight.count_nonzero())
        )
        for node in graph.layers()
    }
