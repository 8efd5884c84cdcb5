"""Removes units that do nothing, exactly: those that nobody reads, and those that are constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from inference.dead_units.constants import Known, find_constants
from inference.dead_units.needed import Masks, find_kept, find_needed
from inference.dead_units.removal import fold_inputs, same_everywhere, take_units
from inference.dead_units.units import Units, find_units, reads_units
from inference.fuse import drop_unread
from inference.graph import Affine, Conv2d, Graph, Linear, Node, Reshape
from inference.interpret import to_dtype


def compact(graph: Graph) -> Graph:
    """Remove dead units and filters.

    A unit is dead if no unit that matters has a weight to it, or if it is constant; then the biases of
    its readers take it over, as a map where it meets the zeros around an image. What is left is a
    fixed point: compacting it again changes nothing. Inputs and outputs keep all their elements, and
    every layer at least one unit. Units that stay only for the sake of others (both terms of a sum
    have the same channels, all groups of a convolution the same size) lose their weights.

    Args:
        graph: Any graph.

    Returns:
        The graph with smaller layers, in the same dtype. It computes the same up to rounding, if all
        inputs are finite.
    """
    first = next(graph.layers(), None)
    if first is None:
        return graph
    dtype = first.weight.dtype
    graph = to_dtype(graph, torch.float64)
    known, units = find_constants(graph), find_units(graph)
    folds = {layer.output: _foldable(layer, known[layer.inputs[0]]) for layer in graph.layers()}
    needed = find_needed(graph, units, folds)
    kept = find_kept(graph, units, needed)
    # Which adds no unit that is not kept.
    folds = {
        layer.output: _worth_folding(graph, units, layer, known, folds, kept) for layer in graph.layers()
    }
    needed = find_needed(graph, units, folds)
    shapes = dict(graph.shapes)
    for name, mask in kept.items():
        shape = list(shapes[name] or ())
        shape[units.axes[name]] = int(mask.sum())
        shapes[name] = tuple(shape)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Linear | Conv2d):
            layer = fold_inputs(node, known[node.inputs[0]], folds[node.output], needed[node.output])
            nodes.append(take_units(graph, units, layer, kept))
        elif isinstance(node, Affine):
            rows = kept[node.output]
            small = dataclasses.replace(node, scale=node.scale[rows], shift=node.shift[rows])
            nodes.append(small)
        elif isinstance(node, Reshape):
            nodes.append(dataclasses.replace(node, shape=shapes[node.output] or ()))
        else:
            nodes.append(node)
    return to_dtype(drop_unread(graph.with_nodes(nodes, shapes)), dtype)


def _foldable(layer: Linear | Conv2d, known: Known) -> Tensor:
    """Tell which inputs of a layer are constants that its bias can take over."""
    if isinstance(layer, Conv2d):
        return known.mask.flatten(1).all(1)
    # The bias of a Linear is the same wherever along the other dimensions it is applied.
    return same_everywhere(known, -1)


def _worth_folding(
    graph: Graph,
    units: Units,
    layer: Linear | Conv2d,
    known: Mapping[str, Known],
    folds: Mapping[str, Tensor],
    kept: Masks,
) -> Tensor:
    """Spare a convolution a map of biases that would only take over channels that stay anyway."""
    name, fold = layer.inputs[0], folds[layer.output]
    if isinstance(layer, Linear) or not reads_units(graph, units.axes, layer):
        return fold
    value = known[name].value.flatten(1)
    bordered = value.any(1) if any(layer.padding) else (value != value[:, :1]).any(1)
    return fold if bool((fold & bordered & ~kept[name]).any()) else fold & ~bordered
