"""Units of a graph's values, features or channels, and which of them can only go together.

Every value has one dimension along which it can be made smaller: the last one where a Linear makes it,
the first where a Conv2d does. A sum ties unit ``i`` of both terms and of the result, a Reshape ties a
channel to all features that it covers. Units that are tied are kept if one of them is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
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
    Softmax,
    TorchOp,
)

BY_CHANNEL = (Conv2d, Affine, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d)


Tie = tuple[str, Tensor, Tensor]


class Units(NamedTuple):
    """How the values of a graph can be made smaller.

    Attributes:
        axes: The dimension of each value that has units, without the batch.
        bundles: For each value, the number of the bundle that each unit belongs to; a bundle goes whole.
        ties: For the output of each node that ties: input, units of the input, units of the output.
        whole: Values that have to stay as they are, and why: inputs, outputs, and what is read or made
            along another dimension or by torch.
    """

    axes: dict[str, int]
    bundles: dict[str, Tensor]
    ties: dict[str, list[Tie]]
    whole: dict[str, str]


def find_units(graph: Graph, pinned: Mapping[str, str] = MappingProxyType({})) -> Units:
    """Find the units of all values.

    Args:
        graph: Any graph.
        pinned: Further values that have to stay whole, and why.

    Returns:
        The units.
    """
    axes: dict[str, int] = {}
    whole = {
        **pinned,
        **dict.fromkeys(graph.inputs, "input of the model"),
        **dict.fromkeys(graph.outputs, "output of the model"),
    }
    for name in graph.inputs:
        _set_axis(graph, axes, name, _wanted_axis(graph, name))
    ties: dict[str, list[Tie]] = {}
    for node in graph.nodes:
        _set_axis(graph, axes, node.output, _axis(graph, axes, node))
        if isinstance(node, Linear | Conv2d):
            if not reads_units(graph, axes, node):
                whole.setdefault(node.inputs[0], f"{node.name!r} reads them along another dimension")
            continue
        found = _ties(graph, axes, node)
        if found is None:
            what = node.target if isinstance(node, TorchOp) else type(node).__name__
            for name in (*node.inputs, node.output):
                whole.setdefault(name, f"{what} in {node.name!r} needs all of them")
        else:
            ties[node.output] = found
    whole = {name: why for name, why in whole.items() if name in axes}
    return Units(axes, _bundle(graph, axes, ties), ties, whole)


def reads_units(graph: Graph, axes: Mapping[str, int], node: Linear | Conv2d) -> bool:
    """Tell whether a layer's weights are along the dimension in which its input can be made smaller."""
    name = node.inputs[0]
    return axes.get(name) == (_last(graph, name) if isinstance(node, Linear) else 0)


def expand(units: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Write a number for each unit to all elements of the unit.

    Args:
        units: ``[units]``.
        shape: Of the value.
        axis: Of its units.

    Returns:
        A view of ``shape``.
    """
    view = [1] * len(shape)
    view[axis] = -1
    return units.view(view).expand(shape)


def _set_axis(graph: Graph, axes: dict[str, int], name: str, axis: int | None) -> None:
    shape = graph.shapes[name]
    if shape and axis is not None:
        axes[name] = axis


def _last(graph: Graph, name: str) -> int:
    return len(graph.shapes[name] or ()) - 1


def _wanted_axis(graph: Graph, name: str) -> int:
    """Return the dimension along which a value's readers would have it made smaller."""
    pending, seen = [name], {name}
    while pending:
        for reader in graph.readers(pending.pop()):
            if isinstance(reader, Linear):
                return _last(graph, name)
            if isinstance(reader, BY_CHANNEL):
                return 0
            if isinstance(reader, Elementwise | Add | Softmax | Concat) and reader.output not in seen:
                seen.add(reader.output)
                pending.append(reader.output)
    return 0 if len(graph.shapes[name] or ()) == 3 else _last(graph, name)


def _axis(graph: Graph, axes: dict[str, int], node: Node) -> int | None:
    if isinstance(node, Linear):
        return _last(graph, node.output)
    if isinstance(node, BY_CHANNEL):
        return 0
    if isinstance(node, Reshape | TorchOp):
        return _wanted_axis(graph, node.output)
    return axes.get(node.inputs[0])


def _ties(graph: Graph, axes: dict[str, int], node: Node) -> list[Tie] | None:
    """Return which units of the inputs are tied to which of the output; None if no unit can go."""
    found = {axes.get(name) for name in (*node.inputs, node.output)}
    if isinstance(node, TorchOp) or None in found:
        return None
    out_shape, out_axis = graph.shapes[node.output] or (), axes[node.output]
    outs = torch.arange(out_shape[out_axis])
    if isinstance(node, Reshape):
        (name,) = node.inputs
        shape = graph.shapes[name] or ()
        ours = expand(torch.arange(shape[axes[name]]), shape, axes[name]).flatten()
        return [(name, ours, expand(outs, out_shape, out_axis).flatten())]
    if len(found) > 1:  # Which no layer can do that goes by channel, or takes values together.
        return None
    if isinstance(node, Softmax) and node.dim - 1 == out_axis:
        return None
    if isinstance(node, Concat) and node.dim - 1 == out_axis:
        sizes = [(graph.shapes[name] or ())[out_axis] for name in node.inputs]
        parts = zip(node.inputs, sizes, outs.split(sizes), strict=True)
        return [(name, torch.arange(size), part) for name, size, part in parts]
    return [(name, outs, outs) for name in node.inputs]


def _bundle(graph: Graph, axes: dict[str, int], ties: Mapping[str, list[Tie]]) -> dict[str, Tensor]:
    """Number the connected units alike: the smallest number spreads until nothing changes."""
    sizes = {name: (graph.shapes[name] or ())[axis] for name, axis in axes.items()}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    numbers = np.arange(sum(sizes.values()))
    ends = [
        (starts[name] + ours.numpy(), starts[output] + outs.numpy())
        for output, found in ties.items()
        for name, ours, outs in found
    ]
    if ends:
        left = np.concatenate([pair[0] for pair in ends])
        right = np.concatenate([pair[1] for pair in ends])
        while True:
            lowest = np.minimum(numbers[left], numbers[right])
            spread = numbers.copy()
            np.minimum.at(spread, left, lowest)
            np.minimum.at(spread, right, lowest)
            spread = spread[spread]
            if np.array_equal(spread, numbers):
                break
            numbers = spread
    return {
        name: torch.from_numpy(numbers[starts[name] : starts[name] + size])
        for name, size in sizes.items()
    }
