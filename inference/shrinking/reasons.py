"""Why dead units are still there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor

from inference.dead_units.units import reads_units
from inference.graph import Conv2d, Linear
from inference.shrinking.owners import BY_HEADS
from inference.shrinking.removal import Removal
from inference.shrinking.report import Stuck


def find_stuck(removal: Removal) -> list[Stuck]:
    """Name the dead units that a removal leaves, with the reasons.

    Args:
        removal: What goes.
    """
    graph, units, kept, dead = removal
    found: Counter[tuple[str, str, str]] = Counter()
    for node in graph.layers():
        if units.whole.get(node.output) == BY_HEADS:
            continue
        if node.output in units.axes:
            for unit in (dead[node.output] & kept[node.output]).nonzero().flatten().tolist():
                found[node.name, "outputs", _why(removal, node.output, unit)] += 1
        name = node.inputs[0]
        if name in units.whole and reads_units(graph, units.axes, node):
            unread = ~_columns(node)
            if unread.any():
                found[node.name, "inputs", units.whole[name]] += int(unread.sum())
    return [Stuck(name, what, count, why) for (name, what, why), count in found.items()]


def _columns(node: Linear | Conv2d) -> Tensor:
    """Tell which inputs have a weight."""
    groups = node.groups if isinstance(node, Conv2d) else 1
    weight = (node.weight != 0).flatten(2).any(2) if isinstance(node, Conv2d) else node.weight != 0
    return weight.view(groups, -1, weight.shape[1]).any(1).flatten()


def _why(removal: Removal, value: str, unit: int) -> str:
    graph, units, _, dead = removal
    if value in units.whole:
        return units.whole[value]
    members = [*_bundled(removal, value, unit)]
    for name, _ in members:
        if name in units.whole:
            return units.whole[name]
    layers = {node.output: node.name for node in graph.layers()}
    # A layer's name says more than that of a sum behind it.
    for name, found in sorted(members, key=lambda member: member[0] not in layers):
        if not dead[name][found].all():
            maker = graph.maker(name)
            return f"the same unit is alive in {layers.get(name) or (maker and maker.name)!r}"
    for name, found in members:
        for reader in graph.readers(name):
            if isinstance(reader, Conv2d) and any(reader.padding) and _columns(reader)[found].any():
                return f"constant but not zero: the zero padding of {reader.name!r} makes a border"
    if any(int(removal.kept[name].sum()) == len(found) for name, found in members):
        return "every layer keeps one unit"
    return "constant but not everywhere the same, or all groups of a convolution need one size"


def _bundled(removal: Removal, value: str, unit: int) -> Iterator[tuple[str, Tensor]]:
    """Go through all that can only go together with a unit: values, and the units of each."""
    bundles = removal.units.bundles
    number = bundles[value][unit]
    for name, numbers in bundles.items():
        found = (numbers == number).nonzero().flatten()
        if len(found):
            yield name, found
