"""Ops for Linear layers."""

from __future__ import annotations

from inference.graph import Linear
from inference.lowering.context import Context, compressed_rows, floats, function


def linear(context: Context, node: Linear) -> None:
    """A matrix product."""
    (read,) = node.inputs
    kind, slope = function(node.activation)
    source, target = context.value(read), context.value(node.output)
    if context.kernel(node, node.weight) == "dense":
        context.builder.dense_linear(source, target, floats(node.weight), floats(node.bias), kind, slope)
    else:
        context.builder.sparse_linear(
            source, target, *compressed_rows(node.weight), floats(node.bias), kind, slope
        )
