"""From layers of a graph to ops of the native engine: one file a kind of layer.

To add a layer, write how it becomes ops, and a line in `LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inference.graph import Graph, Linear, Node
from inference.lowering import images
from inference.lowering.context import Context
from inference.lowering.linear import linear

__all__ = ["LOWERINGS", "Context", "lower_into", "runs"]

LOWERINGS: dict[type[Node], Callable[[Context, Any], None]] = {Linear: linear, **images.LOWERINGS}


def lower_into(
    builder: Any,
    graph: Graph,
    kernels: Mapping[str, str] | None = None,
    before: Callable[[Node], object] = lambda node: None,
) -> tuple[list[int], dict[str, str]]:
    """Give a builder the ops of a graph.

    Args:
        builder: A `_native.Builder`, or what takes the same calls.
        graph: Of layers that `runs` says yes to; its shapes are of one sample.
        kernels: "sparse" or "dense" for layers with weights, by name; others get what suits their zeros.
        before: Called with each layer before its ops are given.

    Returns:
        The builder's numbers of the graph's outputs, and the kernel that each layer with weights got.
    """
    context = Context(builder, graph, kernels or {})
    for name in graph.inputs:
        builder.input(context.value(name))
    for node in graph.nodes:
        before(node)
        LOWERINGS[type(node)](context, node)
    return [context.value(name) for name in graph.outputs], context.chosen


def runs(node: Node, graph: Graph) -> bool:
    """Say whether the engine runs a layer of a graph."""
    if isinstance(node, Linear):
        shapes = [graph.shapes[name] for name in (*node.inputs, node.output)]
        return all(shape and 0 not in shape for shape in shapes)
    return images.runs(node, graph)
