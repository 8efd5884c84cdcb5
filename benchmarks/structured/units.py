"""What can be removed from a network: units, and the weights by which methods shrink and rank them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dwf_optim.structure import Structure, grouping_of


class Group(NamedTuple):
    """A parameter, and which of its elements belong to one unit.

    Attributes:
        name: As in ``model.named_parameters()``.
        structure: As of `dwf_optim.DWFOptimizer`; None where each element is a unit's.
    """

    name: str
    structure: Structure


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    Attributes:
        gated: What a penalty on groups works on.
        made_by: The weight that makes them, where it is another: what is in front of a BatchNorm has no
            size of its own, so there the weights that read a unit are gated.
        scale: The scale of their BatchNorm, where there is one.
    """

    gated: Group
    made_by: Group | None = None
    scale: str | None = None

    @property
    def maker(self) -> Group:
        """Return the weight that makes them."""
        return self.made_by or self.gated


def norms(model: nn.Module, group: Group, order: float = 2.0) -> Tensor:
    """Return the norm of each group, ``[groups]``.

    Args:
        model: Has the parameter.
        group: Which.
        order: Of the norm: 2 or 1.
    """
    weight = model.get_parameter(group.name).detach()
    if group.structure is None:
        return weight.abs().flatten()
    view, within = _view(weight, group)
    norm: Tensor = torch.linalg.vector_norm(view, order, within)
    return norm.flatten()


@torch.no_grad()
def zero_(model: nn.Module, group: Group, dead: Tensor) -> None:
    """Set groups to zero.

    Args:
        model: Changed in place.
        group: Which parameter.
        dead: Mask ``[groups]``.
    """
    weight = model.get_parameter(group.name)
    if group.structure is None:
        weight.view(-1)[dead] = 0
        return
    view, within = _view(weight.data, group)
    view.masked_fill_(dead.view([1 if dim in within else n for dim, n in enumerate(view.shape)]), 0)


def zero_smallest_(
    model: nn.Module, groups: Sequence[Group], scores: Sequence[Tensor], share: float
) -> None:
    """Set the groups of the lowest scores to zero, over all layers; one of each layer stays.

    Args:
        model: Changed in place.
        groups: One for each layer.
        scores: ``[groups]`` for each.
        share: Of all groups.
    """
    last = [score.clone().index_fill_(0, score.argmax(), torch.inf) for score in scores]
    flat = torch.cat(last)
    dead = torch.zeros_like(flat, dtype=torch.bool)
    dead[flat.argsort(stable=True)[: round(share * len(flat))]] = True
    dead &= flat.isfinite()
    for group, mask in zip(groups, dead.split([len(score) for score in scores]), strict=True):
        zero_(model, group, mask)


def _view(weight: Tensor, group: Group) -> tuple[Tensor, tuple[int, ...]]:
    assert group.structure is not None
    grouping = grouping_of(group.structure)
    view = grouping.view(weight)
    return view, grouping.within(view.ndim)


def chain(model: nn.Module) -> list[Units]:
    """List the filters of a chain of convolutions.

    Each is followed by a BatchNorm, and by a layer that reads one channel by one of its inputs.

    Args:
        model: A sequence of layers.
    """
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    weights = [name for name, module in layers if not isinstance(module, nn.BatchNorm2d)]
    scales = [name for name, module in layers if isinstance(module, nn.BatchNorm2d)]
    return [
        behind_norm(made_by, scale, read_by)
        for (made_by, read_by), scale in zip(itertools.pairwise(weights), scales, strict=True)
    ]


def behind_norm(made_by: str, scale: str, read_by: str) -> Units:
    """Describe the filters of a convolution in front of a BatchNorm, by the names of three modules."""
    return Units(
        gated=Group(f"{read_by}.weight", "input"),
        made_by=Group(f"{made_by}.weight", "filter"),
        scale=f"{scale}.weight",
    )
