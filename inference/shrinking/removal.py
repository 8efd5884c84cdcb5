"""Which units of a model's layers can go, if biases can only be vectors, as those of modules are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from inference.dead_units.constants import Known, find_constants
from inference.dead_units.needed import Masks, find_kept, find_needed
from inference.dead_units.removal import fold_inputs, same_everywhere
from inference.dead_units.units import Units, find_units, reads_units
from inference.fuse import as_affine, drop_unread
from inference.graph import BatchNorm, Conv2d, Graph, Linear, Node
from inference.interpret import to_dtype


class Analyzed(NamedTuple):
    """A graph that computes what a model does, layer by layer.

    Attributes:
        graph: In float64, nothing fused; BatchNorms as scale and shift.
        known: Its constants.
    """

    graph: Graph
    known: Mapping[str, Known]


class Removal(NamedTuple):
    """Which units go.

    Attributes:
        graph: The same as before with constants moved, so that nobody reads the units that go.
        units: Of the graph.
        kept: Which units stay, by value.
        dead: Which no output depends on: they are constant, or nobody reads them. Some of them stay.
    """

    graph: Graph
    units: Units
    kept: Masks
    dead: Masks


def analyze(graph: Graph) -> Analyzed:
    """Find the constants of a model.

    Args:
        graph: As `inference.capture.trace` gives it.
    """
    graph = drop_unread(graph)
    nodes = [as_affine(node) if isinstance(node, BatchNorm) else node for node in graph.nodes]
    graph = to_dtype(graph.with_nodes(nodes, graph.shapes), torch.float64)
    return Analyzed(graph, find_constants(graph))


def find_removal(analyzed: Analyzed, pinned: Mapping[str, str]) -> Removal:
    """Find the units that can go, and move what they leave behind.

    A constant unit goes into the biases of its readers. Where it meets the zeros around an image it
    adds another number next to the border; all constant channels of a value then do so in the same
    proportions, and one of them can take over the weights of the others.

    Args:
        analyzed: The model.
        pinned: Values that have to stay whole, and why.
    """
    graph, known = analyzed
    units = find_units(graph, pinned)
    folds = {layer.output: _foldable(graph, units, layer, known) for layer in graph.layers()}
    merges = {layer.output: _mergeable(graph, units, layer, known) for layer in graph.layers()}
    either = {name: folds[name] | merges[name] for name in folds}
    kept = find_kept(graph, units, find_needed(graph, units, either))
    dead = _find_dead(graph, known, find_units(graph), either)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Linear | Conv2d) and reads_units(graph, units.axes, node):
            name = node.inputs[0]
            if isinstance(node, Conv2d) and (merges[node.output] & ~kept[name]).any():
                node = _merge(node, known[name], merges[node.output], kept[name])
            if (fold := folds[node.output] & ~kept[name]).any():
                every = torch.ones(len(node.weight), dtype=torch.bool)
                node = fold_inputs(node, known[name], fold, every)
        nodes.append(node)
    graph = graph.with_nodes(nodes, graph.shapes)
    nothing = {name: torch.zeros_like(fold) for name, fold in folds.items()}
    kept = find_kept(graph, units, find_needed(graph, units, nothing))
    return Removal(graph, units, kept, dead)


def _find_dead(
    graph: Graph, known: Mapping[str, Known], units: Units, folds: Mapping[str, Tensor]
) -> Masks:
    """Find the units that are constant, or that no output depends on."""
    needed = find_needed(graph, units, folds)
    masks = {name: known[name].mask.movedim(axis, 0) for name, axis in units.axes.items()}
    return {name: mask.reshape(len(mask), -1).all(1) | ~needed[name] for name, mask in masks.items()}


def _foldable(graph: Graph, units: Units, layer: Linear | Conv2d, known: Mapping[str, Known]) -> Tensor:
    """Tell which inputs add a vector."""
    found = known[layer.inputs[0]]
    if isinstance(layer, Linear):
        return same_everywhere(found, -1)
    same = same_everywhere(found, 0)
    return same & (found.value.flatten(1)[:, 0] == 0) if any(layer.padding) else same


def _mergeable(graph: Graph, units: Units, layer: Linear | Conv2d, known: Mapping[str, Known]) -> Tensor:
    """Tell which inputs add a multiple of the same map as the others of them would."""
    found = known[layer.inputs[0]]
    if isinstance(layer, Linear) or layer.groups > 1 or not reads_units(graph, units.axes, layer):
        shape = layer.weight.shape[1] * (layer.groups if isinstance(layer, Conv2d) else 1)
        return torch.zeros(shape, dtype=torch.bool)
    return same_everywhere(found, 0) & ~_foldable(graph, units, layer, known)


def _merge(layer: Conv2d, known: Known, mergeable: Tensor, kept: Tensor) -> Conv2d:
    """Let one constant channel take over the weights of those that would not stay."""
    value = known.value[:, 0, 0]
    gone = mergeable & ~kept
    candidates = mergeable & kept if (mergeable & kept).any() else gone
    carrier = int((value.abs() * candidates).argmax())
    gone[carrier] = False
    weight = layer.weight.clone()
    shares = (value / value[carrier])[gone].view(-1, 1, 1)
    weight[:, carrier] += (weight[:, gone] * shares).sum(1)
    weight[:, gone] = 0
    return dataclasses.replace(layer, weight=weight)
