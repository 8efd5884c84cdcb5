"""From layers of a graph to ops of the native engine: one file a kind of layer.

To add a layer, write how it becomes ops, and a line in `LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.graph import Graph, Linear, Node
from inference.lowering import images
from inference.lowering.context import Context
from inference.lowering.linear import linear

__all__ = ["LOWERINGS", "Context", "runs"]

LOWERINGS: dict[type[Node], Callable[[Context, Any], None]] = {Linear: linear, **images.LOWERINGS}


def runs(node: Node, graph: Graph) -> bool:
    """Say whether the engine runs a layer of a graph."""
    if isinstance(node, Linear):
        shapes = [graph.shapes[name] for name in (*node.inputs, node.output)]
        return all(shape and 0 not in shape for shape in shapes)
    return images.runs(node, graph)
