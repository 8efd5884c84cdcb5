"""Which units an output depends on, and which have to stay for the sake of those."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from inference.dead_units.units import Units, reads_units
from inference.graph import Affine, Conv2d, Graph, Linear

Masks = dict[str, Tensor]


def find_needed(graph: Graph, units: Units, folds: Mapping[str, Tensor]) -> Masks:
    """Find the units that an output depends on, going back from the outputs.

    Args:
        graph: Any graph.
        units: Its units.
        folds: For the output of each Linear and Conv2d, which inputs its bias takes over.

    Returns:
        A mask over the units of each value. Values that must stay whole are needed whole.
    """
    needed = {
        name: torch.full((len(bundles),), name in units.whole) for name, bundles in units.bundles.items()
    }
    for node in reversed(graph.nodes):
        if isinstance(node, Linear | Conv2d) and reads_units(graph, units.axes, node):
            read = _reads(node, needed[node.output])
            needed[node.inputs[0]] |= read & ~folds[node.output]
        for name, ours, outs in units.ties.get(node.output, ()):
            read = needed[node.output]
            if isinstance(node, Affine):
                read = read & (node.scale != 0)
            needed[name][ours[read[outs]]] = True
    return needed


def find_kept(graph: Graph, units: Units, needed: Masks) -> Masks:
    """Find the units that stay.

    Those are the needed ones and all that are bundled with them; at least one in every value; and
    where a convolution has groups, as many in every group that stays at all.

    Args:
        graph: Any graph.
        units: Its units.
        needed: As `find_needed` gives it.

    Returns:
        A mask over the units of each value.
    """
    total = 1 + max((int(bundles.max()) for bundles in units.bundles.values()), default=0)
    stays = torch.zeros(total, dtype=torch.bool)
    more: list[tuple[str, Tensor]] = list(needed.items())
    while more:
        for name, mask in more:
            stays[units.bundles[name][mask]] = True
        kept = {name: stays[bundles] for name, bundles in units.bundles.items()}
        more = [(name, _first(mask)) for name, mask in kept.items() if not mask.any()]
        for node in graph.nodes:
            if isinstance(node, Conv2d) and node.groups > 1:
                more += _even_out(graph, units, node, kept)
    return kept


def group_masks(
    graph: Graph, units: Units, node: Conv2d, kept: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return which inputs and outputs of each group of a convolution stay, ``[groups, units]``."""
    name = node.inputs[0]
    channels = node.weight.shape[1] * node.groups
    every = torch.ones(channels, dtype=torch.bool)
    inputs = kept[name] if reads_units(graph, units.axes, node) else every
    return inputs.view(node.groups, -1), kept[node.output].view(node.groups, -1)


def _reads(node: Linear | Conv2d, needed: Tensor) -> Tensor:
    """Tell which inputs have a weight to an output that is needed."""
    paths, groups = node.weight != 0, 1
    if isinstance(node, Conv2d):
        paths, groups = paths.flatten(2).any(2), node.groups
    return (paths & needed[:, None]).view(groups, -1, paths.shape[1]).any(1).flatten()


def _first(mask: Tensor) -> Tensor:
    first = torch.zeros_like(mask)
    first[:1] = True
    return first


def _even_out(graph: Graph, units: Units, node: Conv2d, kept: Masks) -> list[tuple[str, Tensor]]:
    """Find units to keep so that all groups that stay are of one size."""
    masks = group_masks(graph, units, node, kept)
    stays = masks[0].any(1) | masks[1].any(1)
    more = []
    for name, mask in zip((node.inputs[0], node.output), masks, strict=True):
        counts = mask.sum(1)
        missing = (counts.max().clamp(min=1) - counts) * stays
        fill = ~mask & ((~mask).cumsum(1) <= missing[:, None])
        if fill.any():
            more.append((name, fill.flatten()))
    return more
