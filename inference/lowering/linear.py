"""Ops for Linear layers."""

from __future__ import annotations

from inference.graph import Linear
from inference.lowering.context import Context, compressed_rows, floats, function

# Above this share of weights that are not zero, the dense kernel is the faster one on the whole. The two
# are equal at 0.6 at batch 64 with AVX-512, above 0.8 with AVX2; at 0.7 and more at batch 1.
DENSE_FROM = 0.7


def linear(context: Context, node: Linear) -> None:
    """A matrix product."""
    (read,) = node.inputs
    kind, slope = function(node.activation)
    source, target = context.value(read), context.value(node.output)
    if context.kernel(node, node.weight, DENSE_FROM) == "dense":
        context.builder.dense_linear(source, target, floats(node.weight), floats(node.bias), kind, slope)
    else:
        context.builder.sparse_linear(
            source, target, *compressed_rows(node.weight), floats(node.bias), kind, slope
        )
