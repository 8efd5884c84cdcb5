"""Merges each layer with what follows it: BatchNorm, activations, added vectors."""

from __future__ import annotations

import dataclasses
from collections import Counter

from torch import Tensor

from inference.graph import (
    Add,
    Affine,
    BatchNorm,
    Conv2d,
    Elementwise,
    Graph,
    Linear,
    Node,
    Ref,
    Reshape,
    TorchOp,
)
from inference.tracing.padding import symmetric_padding


def fuse(graph: Graph) -> Graph:
    """Merge pairs of nodes where nothing else reads what is between them.

    A BatchNorm becomes a scale and a shift, and these are folded into the weights and bias of the
    Linear or Conv2d before them (in float64, then rounded to the weights' dtype), an activation into
    the layer before it, a sum with a constant vector into a Linear's bias, a Reshape into the one before
    it, zeros around an image into the Conv2d behind them. Nodes whose values nobody reads are dropped.

    Args:
        graph: As traced.

    Returns:
        The graph that computes the same.
    """
    graph = drop_unread(graph)
    made = [as_affine(node) if isinstance(node, BatchNorm) else node for node in graph.nodes]
    graph = graph.with_nodes(made, graph.shapes)
    readers = Counter(graph.outputs)
    readers.update(name for node in graph.nodes for name in node.inputs)
    nodes: list[Node] = []
    made_at: dict[str, int] = {}
    for node in graph.nodes:
        at = (
            made_at.get(node.inputs[0])
            if len(node.inputs) == 1 and readers[node.inputs[0]] == 1
            else None
        )
        merged = None if at is None else _merge(nodes[at], node, graph)
        if at is None or merged is None:
            made_at[node.output] = len(nodes)
            nodes.append(node)
        else:
            made_at[node.output] = at
            nodes[at] = merged
    return graph.with_nodes(nodes, graph.shapes)


def drop_unread(graph: Graph) -> Graph:
    """Drop the nodes that no output depends on.

    Args:
        graph: Any graph.

    Returns:
        The graph without them.
    """
    read = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.output in read:
            kept.append(node)
            read.update(node.inputs)
    return graph.with_nodes(kept[::-1], graph.shapes)


def as_affine(norm: BatchNorm) -> Affine:
    """Return a BatchNorm as a scale and a shift, in float64.

    Args:
        norm: As traced.
    """
    scale = (norm.var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return Affine(name=norm.name, inputs=norm.inputs, output=norm.output, scale=scale, shift=shift)


def _merge(layer: Node, node: Node, graph: Graph) -> Node | None:
    """Return the node that does what both do; None if there is no such."""
    if isinstance(layer, Reshape) and isinstance(node, Reshape):
        return dataclasses.replace(layer, output=node.output, shape=node.shape)
    if isinstance(layer, TorchOp) and isinstance(node, Conv2d):
        return _pad(layer, node)
    if not isinstance(layer, Linear | Conv2d | Affine | Add) or layer.activation is not None:
        return None
    if isinstance(node, Elementwise):
        return dataclasses.replace(layer, output=node.output, activation=node.activation)
    if isinstance(node, Affine) and isinstance(layer, Linear | Conv2d):
        # A Linear's outputs are channels only where there is no dimension between them and the batch.
        if isinstance(layer, Linear) and len(graph.shapes[layer.output] or ()) != 1:
            return None
        return _scale(layer, node)
    vector = _added_vector(node)
    if isinstance(layer, Linear) and vector is not None and vector.shape == layer.weight.shape[:1]:
        bias = vector if layer.bias is None else (layer.bias.double() + vector.double()).to(vector.dtype)
        return dataclasses.replace(layer, output=node.output, bias=bias)
    return None


def _scale(layer: Linear | Conv2d, norm: Affine) -> Linear | Conv2d:
    """Fold ``norm(layer(x))``."""
    scale, shift = norm.scale.double(), norm.shift.double()
    weight = layer.weight.double() * scale.view(-1, *(1,) * (layer.weight.dim() - 1))
    bias = shift if layer.bias is None else layer.bias.double() * scale + shift
    dtype = layer.weight.dtype
    return dataclasses.replace(
        layer,
        output=norm.output,
        weight=weight.to(dtype),
        bias=bias.to(dtype),
        activation=norm.activation,
    )


def _pad(pad: TorchOp, conv: Conv2d) -> Conv2d | None:
    """Fold zeros around an image into the convolution that reads it."""
    if pad.target not in ("aten.pad.default", "aten.constant_pad_nd.default") or pad.kwargs:
        return None
    _, sides, *mode = pad.args
    if any(item not in ("constant", 0, None) for item in mode) or min(sides) < 0:
        return None
    left, right, top, bottom = (*sides, 0, 0, 0, 0)[:4]
    if any(sides[4:]):
        return None
    rows, columns = conv.padding
    found = symmetric_padding(
        conv.weight, conv.dilation, (top + rows, left + columns), (bottom + rows, right + columns)
    )
    if found is None:
        return None
    weight, padding = found
    return dataclasses.replace(conv, inputs=pad.inputs, weight=weight, padding=padding)


def _added_vector(node: Node) -> Tensor | None:
    """Return the vector that a node adds along the last dimension, if that is all it does."""
    if (
        not isinstance(node, TorchOp)
        or node.target != "aten.add.Tensor"
        or node.kwargs
        or len(node.args) != 2
    ):
        return None
    left, right = node.args
    vector = right if isinstance(left, Ref) else left
    is_vector = isinstance(vector, Tensor) and vector.dim() == 1 and vector.is_floating_point()
    return vector if is_vector else None
