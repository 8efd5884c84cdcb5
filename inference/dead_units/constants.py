"""Which elements of a graph's values are the same whatever the inputs, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.graph import (
    AdaptiveAvgPool2d,
    Add,
    Affine,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Reshape,
    Shape,
    Softmax,
)
from inference.interpret import compute


class Known(NamedTuple):
    """What is known of a value before it is computed.

    Attributes:
        mask: True where an element is constant, of the value's shape without the batch.
        value: The constants, float64; 0 elsewhere.
    """

    mask: Tensor
    value: Tensor


def find_constants(graph: Graph) -> dict[str, Known]:
    """Find the constant elements of all values.

    An element is constant if no path of non-zero weights leads to it from an input or from a `TorchOp`.
    Padding is constant too, so next to a border the elements of one channel may differ.

    Args:
        graph: In float64.

    Returns:
        What is known of each value that has a shape. Constants that are not finite count as unknown.
    """
    found: dict[str, Known] = {}
    for name in graph.inputs:
        _put_unknown(found, name, graph.shapes[name])
    for node in graph.nodes:
        spread = SPREAD.get(type(node))
        inputs = [found.get(name) for name in node.inputs]
        if spread is None or any(known is None for known in inputs):
            _put_unknown(found, node.output, graph.shapes[node.output])
            continue
        knowns = [known for known in inputs if known is not None]
        reached = spread(node, [(~known.mask).double()[None] for known in knowns])[0] != 0
        value = compute(node, {name: found[name].value[None] for name in node.inputs})[0]
        mask = ~reached & value.isfinite()
        found[node.output] = Known(mask, value.where(mask, 0))
    return found


def _put_unknown(found: dict[str, Known], name: str, shape: Shape | None) -> None:
    if shape is not None:
        found[name] = Known(
            torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.float64)
        )


def _paths(weight: Tensor) -> Tensor:
    return (weight != 0).double()


def _conv(node: Conv2d, unknown: Sequence[Tensor]) -> Tensor:
    paths = _paths(node.weight)
    return F.conv2d(unknown[0], paths, None, node.stride, node.padding, node.dilation, node.groups)


def _affine(node: Affine, unknown: Sequence[Tensor]) -> Tensor:
    channels = (-1, *(1,) * (unknown[0].dim() - 2))
    return unknown[0] * _paths(node.scale).view(channels)


def _same_way(node: Node, unknown: Sequence[Tensor]) -> Tensor:
    """Spread by the node itself: it takes sums or maxima of what is not negative, or moves elements."""
    spread: Tensor = compute(node, dict(zip(node.inputs, unknown, strict=True)))
    return spread


# From where the inputs are unknown (1) and where not (0) to where the output is unknown (not 0).
SPREAD: dict[type[Node], Callable[[Any, Sequence[Tensor]], Tensor]] = {
    Linear: lambda node, unknown: F.linear(unknown[0], _paths(node.weight)),
    Conv2d: _conv,
    Affine: _affine,
    Elementwise: lambda _, unknown: unknown[0],
    MaxPool2d: _same_way,
    AvgPool2d: _same_way,
    AdaptiveAvgPool2d: _same_way,
    Reshape: _same_way,
    Concat: _same_way,
    Add: lambda node, unknown: unknown[0] + unknown[-1],
    Softmax: lambda node, unknown: unknown[0].amax(node.dim, keepdim=True).expand_as(unknown[0]),
}
