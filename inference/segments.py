"""A graph cut into runs of layers that one native call can take, and those that torch runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from inference.graph import Add, Conv2d, Elementwise, Graph, Linear, Node, Shape


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of layers.

    Attributes:
        graph: The run as a graph of its own; its shapes are without the batch and without ``lead``.
        native: Whether the engine runs it, or torch.
        lead: Dimensions behind the batch that count as more of it: a Linear layer on ``[batch, words,
            features]`` has ``(words,)``.
    """

    graph: Graph
    native: bool
    lead: Shape = ()


def cut(graph: Graph, is_native: Callable[[Node, Graph], bool]) -> tuple[Segment, ...]:
    """Cut a graph into the fewest runs of one kind that keep its order.

    A run without weights is left to torch: getting there and back would take longer.

    Args:
        graph: The whole.
        is_native: Whether the engine has a kernel for a layer of a graph.

    Returns:
        Runs that one after the other compute what the graph does.
    """
    kinds: list[tuple[bool, Shape]] = []
    for node in graph.nodes:
        kinds.append(_kind(graph, node, is_native, kinds[-1] if kinds else None))
    segments: list[Segment] = []
    torch_nodes: list[Node] = []
    for (native, lead), pairs in groupby(zip(kinds, graph.nodes, strict=True), key=lambda pair: pair[0]):
        nodes = [node for _, node in pairs]
        if native and any(isinstance(node, Linear | Conv2d) for node in nodes):
            if torch_nodes:
                segments.append(_segment(graph, torch_nodes, native=False))
                torch_nodes = []
            segments.append(_segment(graph, nodes, native=True, lead=lead))
        else:
            torch_nodes += nodes
    if torch_nodes:
        segments.append(_segment(graph, torch_nodes, native=False))
    return tuple(segments)


def _kind(
    graph: Graph,
    node: Node,
    is_native: Callable[[Node, Graph], bool],
    before: tuple[bool, Shape] | None,
) -> tuple[bool, Shape]:
    """Say who runs a node, and what of its shape counts as batch there."""
    shape = graph.shapes[node.output]
    if shape is None or any(graph.shapes[name] is None for name in node.inputs):
        return False, ()
    if not is_native(node, graph):
        return False, ()
    if isinstance(node, Linear):
        return True, shape[:-1]
    # These take any shape, so they go with what is before them.
    if isinstance(node, Elementwise | Add) and before is not None and before[0]:
        lead = before[1]
        if len(shape) > len(lead) and shape[: len(lead)] == lead:
            return True, lead
    return True, ()


def _segment(graph: Graph, nodes: list[Node], *, native: bool, lead: Shape = ()) -> Segment:
    made = {node.output for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    inputs = tuple(name for name in read if name not in made)
    inside = {id(node) for node in nodes}
    read_later = {name for node in graph.nodes if id(node) not in inside for name in node.inputs}
    outputs = tuple(
        node.output for node in nodes if node.output in read_later or node.output in graph.outputs
    )
    shapes = {name: _without(graph.shapes[name], lead) for name in (*inputs, *made)}
    return Segment(Graph(inputs, outputs, tuple(nodes), shapes), native, lead)


def _without(shape: Shape | None, lead: Shape) -> Shape | None:
    return None if shape is None else shape[len(lead) :]
