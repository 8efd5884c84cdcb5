"""Masks over all weight matrices of a network: which weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the tensors in which zeros are counted, by name: those of two dimensions or more."""
    return {name: p for name, p in model.named_parameters() if p.ndim >= 2}


def keep_largest(scores: Mapping[str, Tensor], sparsity: float) -> Masks:
    """Keep the weights of the largest scores over all layers together.

    Args:
        scores: By name, of the weights' shapes.
        sparsity: Fraction that goes, in [0, 1); exact to one weight. Ties go by position.

    Returns:
        Masks of what stays.
    """
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = torch.ones_like(flat, dtype=torch.bool)
    count = round(sparsity * len(flat))
    if count:
        # One value found takes a fifth of the time of all values sorted.
        limit = flat.kthvalue(count).values
        kept = flat > limit
        ties = (flat == limit).nonzero().flatten()
        kept[ties[count - int((flat < limit).sum()) :]] = True
    parts = kept.split([score.numel() for score in scores.values()])
    return {
        name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)
    }


@torch.no_grad()
def apply_(masks: Masks, model: nn.Module) -> None:
    """Set what is masked to zero, in place."""
    for name, p in prunable(model).items():
        if name in masks:
            p.mul_(masks[name])
