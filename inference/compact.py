"""Removes units that do nothing, exactly: those that nobody reads, and those that are constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.dead_units.constants import Known, find_constants
from inference.dead_units.needed import Masks, find_kept, find_needed, group_masks
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
            layer = _fold(node, known[node.inputs[0]], folds[node.output], needed[node.output])
            nodes.append(_slice(graph, units, layer, kept))
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
    mask, value = (x.reshape(-1, x.shape[-1]) for x in known)
    return mask.all(0) & (value == value[0]).all(0)


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


def _fold(layer: Linear | Conv2d, known: Known, fold: Tensor, needed: Tensor) -> Linear | Conv2d:
    """Move constant inputs into the bias, and clear the outputs that nobody needs."""
    weight = layer.weight.clone()
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    columns = fold.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    added = (
        _added_by_conv(layer, known.value, fold, needed)
        if isinstance(layer, Conv2d)
        else weight @ (known.value.reshape(-1, weight.shape[1])[0] * fold)
    )
    weight[columns] = 0
    weight[~needed] = 0
    bias = layer.bias
    if added is not None and added.any():
        old = torch.zeros(len(weight), dtype=weight.dtype) if bias is None else bias
        bias = _as_map(old, added) + _as_map(added, old)
    if bias is not None:
        bias = bias.clone()
        bias[~needed] = 0
    return dataclasses.replace(layer, weight=weight, bias=bias)


def _added_by_conv(layer: Conv2d, value: Tensor, fold: Tensor, needed: Tensor) -> Tensor | None:
    """Compute what constant channels add to a convolution: a vector if it can be, or a map."""
    constants = value * fold[:, None, None]
    if not constants.any():
        return None
    if layer.padding == (0, 0) and bool((constants == constants[:, :1, :1]).all()):
        kernel = layer.weight.sum((2, 3), keepdim=True)
        return F.conv2d(constants[None, :, :1, :1], kernel, groups=layer.groups).flatten()
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    added = F.conv2d(constants[None], layer.weight, None, *options)[0]
    added[~needed] = 0
    corner = added[:, :1, :1]
    return corner.flatten() if bool((added == corner).all()) else added


def _as_map(bias: Tensor, other: Tensor) -> Tensor:
    return bias[:, None, None] if bias.dim() < other.dim() else bias


def _slice(graph: Graph, units: Units, layer: Linear | Conv2d, kept: Masks) -> Linear | Conv2d:
    """Take the weights of the units that stay."""
    rows = kept[layer.output]
    weight, bias = layer.weight[rows], None if layer.bias is None else layer.bias[rows]
    if isinstance(layer, Conv2d) and layer.groups > 1:
        inputs, outputs = group_masks(graph, units, layer, kept)
        stays = outputs.any(1)
        groups = int(stays.sum())
        columns = inputs[stays].nonzero()[:, 1].view(groups, -1)
        columns = columns.repeat_interleave(len(weight) // groups, 0)[:, :, None, None]
        weight = weight.gather(1, columns.expand(-1, -1, *weight.shape[2:]))
        return dataclasses.replace(layer, weight=weight, bias=bias, groups=groups)
    if reads_units(graph, units.axes, layer):
        weight = weight[:, kept[layer.inputs[0]]]
    return dataclasses.replace(layer, weight=weight, bias=bias)
