"""Weights kept in 16 bits."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

from inference.graph import Conv2d, Graph, Linear, Node

WEIGHT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

AnyNode = TypeVar("AnyNode", bound=Node)


def round_weights(graph: Graph, dtype: torch.dtype) -> Graph:
    """Round the weights of Linear and Conv2d layers to what a dtype can hold.

    Biases and all other constants stay as they are.

    Args:
        graph: In float32.
        dtype: One of `WEIGHT_DTYPES`.

    Returns:
        The graph, still in float32; itself for float32.

    Raises:
        ValueError: If the dtype is another one, or too narrow for a weight.
    """
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(
            f"weight_dtype must be one of {', '.join(map(str, WEIGHT_DTYPES))}, got {dtype!r}"
        )
    if dtype == torch.float32:
        return graph
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Linear | Conv2d):
            rounded = node.weight.to(dtype).float()
            if bool((rounded.isinf() & node.weight.isfinite()).any()):
                raise ValueError(
                    f"layer {node.name!r} has weights up to {float(node.weight.abs().max()):.6g}, "
                    f"beyond {torch.finfo(dtype).max:.6g}, the largest {dtype}; use torch.bfloat16"
                )
            node = dataclasses.replace(node, weight=rounded)
        nodes.append(node)
    return graph.with_nodes(nodes, graph.shapes)


def with_weight_dtype(graph: Graph, dtype: torch.dtype) -> Graph:
    """Hold the weights of Linear and Conv2d layers in another dtype.

    Args:
        graph: Of weights that fit it, as `round_weights` makes them.
        dtype: Any floating-point dtype.

    Returns:
        The graph; shares what has the dtype already.
    """
    nodes = [
        dataclasses.replace(node, weight=node.weight.to(dtype))
        if isinstance(node, Linear | Conv2d)
        else node
        for node in graph.nodes
    ]
    return graph.with_nodes(nodes, graph.shapes)


def weight_dtype(graph: Graph) -> torch.dtype:
    """Return the dtype that a graph holds its weights in; float32 if it has none."""
    return next((node.weight.dtype for node in graph.layers()), torch.float32)
