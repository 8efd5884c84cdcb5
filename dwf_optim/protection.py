"""Which weights of a layer are kept, so that neither it nor one of its units empties."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

PerLayer = float | Mapping[str, float]


@dataclass(frozen=True)
class Floor:
    """The least that a layer keeps.

    Attributes:
        nonzero_per_unit: Weights of every output unit: an index of the first dimension, which is a
            neuron of a linear layer and a filter of a convolution.
        density: Fraction of the layer's weights.
    """

    nonzero_per_unit: int = 0
    density: float = 0.0


def floors(
    names: Iterable[str], min_nonzero_per_unit: PerLayer, min_density: PerLayer
) -> dict[str, Floor]:
    """Read what a user asks to be kept.

    Args:
        names: Of all layers that could be named.
        min_nonzero_per_unit: One number for all layers, or numbers by name; others then have 0.
        min_density: Likewise, in [0, 1].

    Returns:
        Name to floor, for every name.

    Raises:
        ValueError: If a number is out of range, or a name unknown.
    """
    names = list(names)
    units = _by_name("min_nonzero_per_unit", min_nonzero_per_unit, names)
    densities = _by_name("min_density", min_density, names)
    for name in names:
        if not (isinstance(units[name], Integral) and units[name] >= 0):
            raise ValueError(f"min_nonzero_per_unit is a count, 0 or more, got {units[name]}")
        if not 0 <= densities[name] <= 1:
            raise ValueError(f"min_density is a fraction of weights, 0 to 1, got {densities[name]}")
    return {name: Floor(int(units[name]), float(densities[name])) for name in names}


def protected(weight: Tensor, floor: Floor) -> Tensor:
    """Return the weights that a floor keeps: the largest of each unit, and the largest of the layer.

    Zeros are never among them: where a unit or the layer has fewer weights left than its floor, that is
    all of them.

    Args:
        weight: Any shape, not sharded.
        floor: The least to keep; the number of a layer's weights is rounded up.

    Returns:
        Boolean, of the weight's shape; ties go to the first.
    """
    sizes = weight.detach().abs()
    kept = torch.zeros(sizes.shape, dtype=torch.bool, device=sizes.device)
    if sizes.numel() == 0 or sizes.ndim == 0:
        return kept
    _mark_largest(sizes.reshape(len(sizes), -1), floor.nonzero_per_unit, kept.view(len(sizes), -1))
    share = math.ceil(floor.density * sizes.numel() - 1e-9)
    _mark_largest(sizes.reshape(1, -1), share, kept.view(1, -1))
    return kept & (sizes != 0)


def _mark_largest(rows: Tensor, count: int, marks: Tensor) -> None:
    """Mark the largest elements of every row, in place."""
    if count > 0:
        order = rows.sort(dim=1, descending=True, stable=True).indices
        marks.scatter_(1, order[:, :count], True)


def _by_name(argument: str, given: PerLayer, names: list[str]) -> Mapping[str, float]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    if unknown := sorted(given.keys() - set(names)):
        raise ValueError(f"{argument} names {unknown}, which are not factorized; there are {names}")
    return {name: given.get(name, 0) for name in names}
