"""Ops for layers of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
)
from inference.lowering.context import Context, compressed_rows, floats, function
from inference.lowering.windows import adaptive_spans, mean_spans, spans


def conv(context: Context, node: Conv2d) -> None:
    """A convolution, with the sum that follows it where there is one."""
    (read,) = node.inputs
    total = context.sums.get(node.name)
    if total is None:
        output, added, activation = node.output, -1, node.activation
    else:
        output, activation = total.output, total.activation
        (other,) = (name for name in total.inputs if name != node.output)
        added = context.value(other)
    kind, slope = function(activation)
    window = (*node.weight.shape[2:], *node.stride, *node.padding, *node.dilation)
    rest = (window, node.groups, floats(node.bias), added, kind, slope)
    source, target = context.value(read), context.value(output)
    # The dense kernel shares inputs among the channels of a group, of which these have one or two.
    few = len(node.weight) // node.groups < 4
    if context.kernel(node, node.weight) == "dense" and not few:
        context.builder.dense_conv(source, target, floats(node.weight), *rest)
    else:
        context.builder.sparse_conv(source, target, *compressed_rows(node.weight), *rest)


def add(context: Context, node: Add) -> None:
    """A sum, unless a convolution has computed it."""
    if node not in context.sums.values():
        first, second = (context.value(name) for name in node.inputs)
        context.builder.add(first, second, context.value(node.output), *function(node.activation))


def affine(context: Context, node: Affine) -> None:
    """A scale and a shift by channel."""
    (read,) = node.inputs
    context.builder.affine(
        context.value(read),
        context.value(node.output),
        floats(node.scale),
        floats(node.shift),
        *function(node.activation),
    )


def elementwise(context: Context, node: Elementwise) -> None:
    """An activation by itself."""
    (read,) = node.inputs
    context.builder.elementwise(
        context.value(read), context.value(node.output), *function(node.activation)
    )


def max_pool(context: Context, node: MaxPool2d) -> None:
    """The largest of each window."""
    sizes = _sizes(context, node)
    rows, columns = (
        spans(size, outputs, node.kernel[d], node.stride[d], node.padding[d], node.dilation[d])
        for d, (size, outputs) in enumerate(sizes)
    )
    _pool(context, node, True, rows, columns, node.dilation)


def avg_pool(context: Context, node: AvgPool2d) -> None:
    """The mean of each window."""
    rows, columns = (
        mean_spans(
            size, outputs, node.kernel[d], node.stride[d], node.padding[d], node.count_include_pad
        )
        for d, (size, outputs) in enumerate(_sizes(context, node))
    )
    if node.divisor is not None:
        rows = [(first, count, float(node.divisor)) for first, count, _ in rows]
        columns = [(first, count, 1.0) for first, count, _ in columns]
    _pool(context, node, False, rows, columns)


def adaptive_avg_pool(context: Context, node: AdaptiveAvgPool2d) -> None:
    """The mean of windows that cover the image."""
    rows, columns = (adaptive_spans(size, outputs) for size, outputs in _sizes(context, node))
    _pool(context, node, False, rows, columns)


def reshape(context: Context, node: Reshape) -> None:
    """The same value for those who only count its elements; a copy for others."""
    (read,) = node.inputs
    readers = context.graph.readers(node.output)
    counted = len(node.shape) == 1 and readers and all(isinstance(reader, Linear) for reader in readers)
    if counted and node.output not in context.graph.outputs:
        context.values[node.output] = context.value(read)
    else:
        context.builder.concat([context.value(read)], context.value(node.output))


def concat(context: Context, node: Concat) -> None:
    """Channels side by side."""
    context.builder.concat([context.value(name) for name in node.inputs], context.value(node.output))


def softmax(context: Context, node: Softmax) -> None:
    """Softmax over channels."""
    (read,) = node.inputs
    context.builder.softmax(context.value(read), context.value(node.output))


def runs(node: Node, graph: Graph) -> bool:
    """Say whether the engine runs a layer of this module: its values are images or rows of features."""
    shapes = [graph.shapes[name] for name in (*node.inputs, node.output)]
    if type(node) not in LOWERINGS or any(shape is None or 0 in shape for shape in shapes):
        return False
    ranks = {len(shape) for shape in shapes if shape is not None}
    if isinstance(node, Concat):
        # Features count up along the first dimension, so only there do the inputs follow each other.
        return node.dim == 1 and ranks <= {1, 3}
    if isinstance(node, Softmax):
        return node.dim == 1 and ranks <= {1, 3}
    if isinstance(node, Affine):
        return ranks <= {1, 3}
    if isinstance(node, Add):
        return len(set(shapes)) == 1
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d | AdaptiveAvgPool2d):
        return ranks == {3}
    return True


def _sizes(context: Context, node: Node) -> list[tuple[int, int]]:
    """Return the input's and the output's rows, and the same for columns."""
    (read,) = node.inputs
    before, after = context.shape(read), context.shape(node.output)
    return [(before[1], after[1]), (before[2], after[2])]


def _pool(context: Context, node: Node, largest: bool, *windows: Any) -> None:
    (read,) = node.inputs
    context.builder.pool(context.value(read), context.value(node.output), largest, *windows)


# How each node becomes ops. A node's values are made in the order of the graph.
LOWERINGS: dict[type[Node], Callable[[Context, Any], None]] = {
    Conv2d: conv,
    Add: add,
    Affine: affine,
    Elementwise: elementwise,
    MaxPool2d: max_pool,
    AvgPool2d: avg_pool,
    AdaptiveAvgPool2d: adaptive_avg_pool,
    Reshape: reshape,
    Concat: concat,
    Softmax: softmax,
}
