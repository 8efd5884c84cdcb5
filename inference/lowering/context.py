"""What is known while a graph becomes a native program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inference.graph import Activation, Add, Conv2d, Graph, Node, Pair, Shape

# Above this share of weights that are not zero, dense kernels are the faster ones for convolutions, by
# benchmarks.conv.
DENSE_FROM = 0.6
# Floats that the engine's image kernels take side by side.
RUN = 16
# The most samples that go through the engine side by side.
MOST_LANES = 64


@dataclass(eq=False)
class Context:
    """A program in the making.

    Attributes:
        builder: The `_native.Builder` that the ops go to.
        graph: What is made into a program; values without the batch.
        kernels: "sparse" or "dense" for layers with weights, by name; others get what suits their zeros.
        values: The builder's number of each value that is made.
        chosen: The kernel that each layer with weights got, by name.
    """

    builder: Any
    graph: Graph
    kernels: Mapping[str, str] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._borders = borders(self.graph)
        self.sums = fused_sums(self.graph)

    def shape(self, name: str) -> Shape:
        """Return the shape of a value, which is known for all that the engine runs."""
        shape = self.graph.shapes[name]
        if shape is None:
            raise ValueError(f"the shape of {name!r} is not known")
        return shape

    def value(self, name: str) -> int:
        """Return the builder's number of a value, which is new if it is not made yet."""
        if name not in self.values:
            self.values[name] = self.builder.value(
                layout(self.shape(name), self._borders.get(name, (0, 0)))
            )
        return self.values[name]

    def kernel(self, node: Node, weight: Tensor, dense_from: float = DENSE_FROM) -> str:
        """Return which kernel a layer gets, "sparse" or "dense": what was asked for, or by density."""
        suits = "sparse" if density(weight) <= dense_from else "dense"
        self.chosen[node.name] = self.kernels.get(node.name, suits)
        return self.chosen[node.name]


def layout(shape: Shape, border: Pair = (0, 0)) -> tuple[int, int, int, int, int]:
    """Return how the native engine sees a value: channels, height, width, border of rows and of columns.

    Args:
        shape: Without the batch. What is no image is a row of features.
        border: Rows and columns of zeros on each side, for images.
    """
    if len(shape) == 3:
        return shape[0], shape[1], shape[2], border[0], border[1]
    return prod(shape), 1, 1, 0, 0


def borders(graph: Graph) -> dict[str, Pair]:
    """Find each value's border of zeros: the widest padding of the convolutions that read it."""
    widths: dict[str, Pair] = {}
    for node in graph.nodes:
        if isinstance(node, Conv2d):
            (read,) = node.inputs
            rows, columns = widths.get(read, (0, 0))
            widths[read] = max(rows, node.padding[0]), max(columns, node.padding[1])
    return widths


def fused_sums(graph: Graph) -> dict[str, Add]:
    """Find the sums that a convolution computes on the way.

    Returns:
        By the name of the convolution: it makes one of the sum's two values for nothing else, has no
        activation of its own, and the other value is there before it.
    """
    place = {node.output: k for k, node in enumerate(graph.nodes)}
    found: dict[str, Add] = {}
    for node in graph.nodes:
        if not isinstance(node, Add):
            continue
        last, other = sorted(node.inputs, key=lambda name: place.get(name, -1), reverse=True)
        maker = graph.maker(last)
        if (
            isinstance(maker, Conv2d)
            and last != other
            and maker.activation is None
            and len(graph.readers(last)) == 1
            and last not in graph.outputs
        ):
            found[maker.name] = node
    return found


def lanes_for(graph: Graph) -> int:
    """Return how many samples had best go through a graph side by side.

    Lone images need no transposing, and in rows of `RUN` outputs and more fill registers by themselves.
    Smaller ones do not, and read all weights anew for every image.

    Args:
        graph: Of layers that the engine runs.

    Returns:
        The ``widest`` of a `_native.Builder`.
    """
    layers = list(graph.layers())
    convs = [node for node in layers if isinstance(node, Conv2d)]
    if convs and convs == layers and all(_fills_rows(graph, node) for node in convs):
        return 1
    return RUN if convs else MOST_LANES


def _fills_rows(graph: Graph, node: Conv2d) -> bool:
    shape = graph.shapes[node.output]
    return shape is not None and shape[-1] >= RUN and node.stride[1] == 1


def function(activation: Activation | None) -> tuple[str, float]:
    """Return an activation as the native engine's methods take it: its name and its slope."""
    return ("", 0.0) if activation is None else (activation.kind, activation.slope)


def density(weight: Tensor) -> float:
    """Return the share of weights that are not zero."""
    return int(weight.count_nonzero()) / max(weight.numel(), 1)


def floats(tensor: Tensor | None) -> npt.NDArray[np.float32] | None:
    """Return a tensor's numbers as NumPy has them; None for None."""
    if tensor is None:
        return None
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float32).numpy())


def compressed_rows(
    weight: Tensor,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Compress a matrix, or filters as rows of one.

    Args:
        weight: ``[rows, ...]``.

    Returns:
        Row pointers, column indices and weights that are not zero. NaN is none.
    """
    rows = weight.detach().to("cpu", torch.float32).reshape(len(weight), -1).numpy()
    where = rows != 0
    begins = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(where.sum(1), out=begins[1:])
    return begins, np.nonzero(where)[1].astype(np.int32), np.ascontiguousarray(rows[where])
