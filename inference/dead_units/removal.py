"""Layers without some of their units: constants go into biases, weights of what stays are taken."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.dead_units.constants import Known
from inference.dead_units.needed import Masks, group_masks
from inference.dead_units.units import Units, reads_units
from inference.graph import Conv2d, Graph, Linear


def same_everywhere(known: Known, axis: int) -> Tensor:
    """Tell which units are one constant all along the other dimensions.

    Args:
        known: What is known of a value.
        axis: Of its units.

    Returns:
        A mask over the units.
    """
    mask, value = (x.movedim(axis, -1).reshape(-1, x.shape[axis]) for x in known)
    return mask.all(0) & (value == value[0]).all(0)


def fold_inputs(layer: Linear | Conv2d, known: Known, fold: Tensor, needed: Tensor) -> Linear | Conv2d:
    """Move constant inputs into the bias, and clear the outputs that nobody needs.

    Args:
        layer: In float64.
        known: Of its input.
        fold: Mask over the inputs: which to move; each of them constant.
        needed: Mask over the outputs.

    Returns:
        The layer that computes the same where needed. A convolution's bias becomes a map where the
        constants meet the zeros around the image, or differ along it.
    """
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


def take_units(graph: Graph, units: Units, layer: Linear | Conv2d, kept: Masks) -> Linear | Conv2d:
    """Take the weights of the units that stay.

    Args:
        graph: Where the layer is.
        units: Of the graph.
        layer: The layer, or one in its place with as many units.
        kept: As `find_kept` gives it.

    Returns:
        The smaller layer; a convolution with the groups that are left.
    """
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
