"""Removing the smallest weights during training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dwf_optim.factorization import factorized
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.protection import Floor, protected
from dwf_optim.ranking import Ranking, whole_groups, zeros_at
from dwf_optim.sharding import whole
from dwf_optim.storage import Storage


def check_sparsity(optimizer: DWFOptimizer, sparsity: float) -> None:
    """Refuse a sparsity that is no fraction, or that leaves none of the optimizer's weights.

    Args:
        optimizer: Its factorized tensors count.
        sparsity: Fraction of zeros over all of them.

    Raises:
        ValueError: Saying which of the two, or that nothing is factorized.
    """
    if not 0 < sparsity < 1:
        raise ValueError(
            f"sparsity is the fraction of zeros, between 0 and 1, got {sparsity}; 98 % is 0.98"
        )
    total = sum(parameter.numel() for parameter in optimizer.factorized())
    if total == 0:
        raise ValueError(
            "the optimizer factorizes no tensor, so none becomes sparse: give depth >= 2, and "
            "weights of 2 dimensions or more"
        )
    if zeros_at(sparsity, total) == total:
        raise ValueError(
            f"sparsity {sparsity} leaves none of {total} weights: at most {1 - 1 / total:.7g} leaves one"
        )


def check_floors(optimizer: DWFOptimizer, sparsity: float, floors: Mapping[Tensor, Floor]) -> None:
    """Refuse floors that keep more weights than a sparsity leaves.

    Args:
        optimizer: As of `remove_smallest`, like the others.
        sparsity: To be reached.
        floors: Of tensors that have one.

    Raises:
        ValueError: Saying how many weights are left, how many are kept, and what would do.
    """
    _ranked(optimizer, floors)[1].count_of(sparsity)


@torch.no_grad()
def remove_smallest(
    optimizer: DWFOptimizer, sparsity: float, floors: Mapping[Tensor, Floor] | None = None
) -> float:
    """Set the smallest weights to zero for good, with factors and state, over all tensors together.

    Weights that share gates go by their group's norm, and whole groups at a time. Groups of parameters
    whose penalty is 0 lose nothing: it is how `~dwf_optim.LayerGuard` holds them.

    Args:
        optimizer: Holds the weights.
        sparsity: Fraction that is zero afterwards, exact to one weight or group, as far as held groups
            and floors allow; ties go by position.
        floors: What is kept of each tensor, its largest; tensors that are not named have none.

    Returns:
        The contrast: the largest norm removed over the root mean square of those that stay; NaN, and
        nothing removed, where a weight is not finite.
    """
    tensors, ranking = _ranked(optimizer, floors or {})
    squares = sum(float(whole(tensor.detach()).double().square().sum()) for tensor in tensors)
    if not math.isfinite(squares):
        return math.nan
    free = len(ranking) - ranking.kept
    possible = ranking.weights(free) / ranking.weights(len(ranking))
    # A group may be more than what is missing; the last one stays.
    count = min(max(1, ranking.count_of(min(sparsity, possible))), free, len(ranking) - 1)
    masks, largest = ranking.smallest(count)
    for tensor, mask in zip(tensors, masks, strict=True):
        optimizer.zero_(tensor, mask)
    squares -= float(ranking.ordered[:count].double().square().sum())
    return largest / math.sqrt(max(squares, 1e-300) / (len(ranking) - count))


def _ranked(optimizer: DWFOptimizer, floors: Mapping[Tensor, Floor]) -> tuple[list[Tensor], Ranking]:
    """Return the factorized tensors, and the order in which their weights go."""
    tensors: list[Tensor] = []
    modes: list[Storage] = []
    kept: list[Tensor] = []
    for group in optimizer.param_groups:
        for tensor, factorization in factorized([group]):
            weight = whole(tensor.detach())
            held = group["penalty"] == 0
            keep = weight != 0 if held else protected(weight, floors.get(tensor, Floor()))
            tensors.append(tensor)
            modes.append(factorization.mode)
            kept.append(whole_groups(keep, factorization.mode))
    return tensors, Ranking(tensors, modes, kept)
