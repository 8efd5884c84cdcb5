"""Removing the smallest weights during training."""

from __future__ import annotations

import math

import torch

from dwf_optim.factorization import factorized
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.ranking import Ranking


def zeros_at(sparsity: float, total: int) -> int:
    """Return how many of ``total`` weights are zero at a sparsity, rounded up."""
    return math.ceil(sparsity * total - 1e-9)


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


@torch.no_grad()
def remove_smallest(optimizer: DWFOptimizer, sparsity: float) -> float:
    """Set the smallest weights to zero for good, with factors and state, over all tensors together.

    Weights that share gates go by their group's norm, and whole groups at a time.

    Args:
        optimizer: Holds the weights.
        sparsity: Fraction that is zero afterwards, exact to one weight or group; ties go by position.

    Returns:
        The contrast: the largest norm removed over the root mean square of those that stay; NaN, and
        nothing removed, where a weight is not finite.
    """
    held = list(factorized(optimizer.param_groups))
    tensors, modes = [p for p, _ in held], [factorization.mode for _, factorization in held]
    ranking = Ranking(
        tensors, modes, [torch.zeros(p.shape, dtype=torch.bool, device=p.device) for p in tensors]
    )
    if not bool(ranking.ordered.isfinite().all()):
        return math.nan
    # A group may be more than what is missing; the last one stays.
    count = min(max(1, ranking.count_of(sparsity)), len(ranking) - 1)
    masks, largest = ranking.smallest(count)
    for tensor, mask in zip(tensors, masks, strict=True):
        optimizer.zero_(tensor, mask)
    return largest / float(ranking.ordered[count:].float().square().mean().sqrt())
