"""Which elements of a tensor share a gate: filters, neurons, inputs, heads, or any dimensions.

To add a structure, write a line in `STRUCTURES`: a `Grouping`, or a function of integers that makes one.
In a parameter group it goes by its name, so that checkpoints hold plain values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dwf_optim.sharding import is_sharded

# What a parameter group says: a name, a name with numbers, or the dimensions that a gate keeps.
Structure = str | tuple[str | int, ...] | None
ELEMENTWISE = "elementwise"


@dataclass(frozen=True)
class Grouping:
    """How the elements of a tensor fall into groups of one size.

    Attributes:
        keeps: The dimensions that tell groups apart; all others run within a group. Of the view below.
        ndim: How many dimensions the tensor may have, least and most.
        split: Optional view that groups need: a dimension, and the sizes it is split into (one may be
            -1, as in ``Tensor.unflatten``).
    """

    keeps: tuple[int, ...]
    ndim: tuple[int, int] = (1, 64)
    split: tuple[int, tuple[int, ...]] | None = None

    def view(self, tensor: Tensor) -> Tensor:
        """Return the tensor with groups along dimensions of their own, sharing its memory."""
        return tensor if self.split is None else tensor.unflatten(*self.split)

    def within(self, ndim: int) -> tuple[int, ...]:
        """Return the dimensions of a view of ``ndim`` dimensions that run within a group."""
        return tuple(dim for dim in range(ndim) if dim not in self.keeps)

    def gate_shape(self, shape: Sequence[int]) -> torch.Size:
        """Return the shape of a gate, which broadcasts against the view.

        Args:
            shape: The tensor's.
        """
        view = self.view_shape(shape)
        return torch.Size(size if dim in self.keeps else 1 for dim, size in enumerate(view))

    def view_shape(self, shape: Sequence[int]) -> torch.Size:
        """Return the shape of the view of a tensor of this shape."""
        return self.view(torch.empty(shape, device="meta")).shape

    def check(self, p: Tensor, name: object) -> None:
        """Refuse a tensor that has no such groups, or whose shards cut through them.

        Args:
            p: The parameter.
            name: What the structure is called.

        Raises:
            ValueError: With the way out.
        """
        what = f"structure={name!r} does not fit a parameter of shape {tuple(p.shape)}"
        least, most = self.ndim
        if not least <= p.ndim <= most:
            raise ValueError(
                f"{what}: it is for {least} to {most} dimensions; leave the tensor to the base "
                f"(min_ndim={least}), or give it a group with another structure"
            )
        if self.split is not None:
            dim, sizes = self.split
            parts = math.prod(size for size in sizes if size != -1)
            if p.shape[dim] % parts:
                raise ValueError(f"{what}: dimension {dim} does not part into {parts} equal heads")
        ndim = self.view(p.detach()).ndim if not is_sharded(p) else p.ndim
        if any(dim >= ndim for dim in self.keeps):
            raise ValueError(f"{what}: it has no dimension {max(self.keeps)}")
        if not self.within(ndim):
            raise ValueError(f"{what}: every element would have gates of its own; use structure=None")
        if is_sharded(p):
            self._check_shards(p, what)

    def _check_shards(self, p: Tensor, what: str) -> None:
        """Gates are cut like their weight, which needs every group whole on one rank."""
        dims = [placement.dim for placement in p.placements if placement.is_shard()]  # type: ignore[attr-defined]
        if dims and (self.split is not None or any(dim not in self.keeps for dim in dims)):
            raise ValueError(
                f"{what} sharded along dimension {dims}: its groups lie on several ranks, and sums over "
                f"ranks are not implemented; shard along {self.keeps}, replicate the tensor (DDP), or "
                "use structure=None"
            )


def _heads(count: int) -> Grouping:
    """Rows in ``count`` equal blocks: the value, query or key projection of an attention layer."""
    return Grouping(keeps=(0,), ndim=(2, 2), split=(0, (count, -1)))


def _qkv_heads(count: int) -> Grouping:
    """The same for query, key and value stacked, as in ``nn.MultiheadAttention.in_proj_weight``."""
    return Grouping(keeps=(1,), ndim=(2, 2), split=(0, (3, count, -1)))


STRUCTURES: dict[str, Grouping | Callable[..., Grouping]] = {
    # torch's convolutions and linear layers have their outputs first, then their inputs.
    "filter": Grouping(keeps=(0,), ndim=(3, 5)),
    "neuron": Grouping(keeps=(0,), ndim=(2, 2)),
    "input": Grouping(keeps=(1,), ndim=(2, 5)),
    "head": _heads,
    "qkv_head": _qkv_heads,
}


def is_elementwise(structure: Structure) -> bool:
    """Say whether every element has factors of its own."""
    return structure is None or structure == ELEMENTWISE


def check_structure(structure: Structure, storage: str, weigh_by_size: object) -> None:
    """Refuse a structure that does not exist, or with options that it has no way for.

    Args:
        structure: As in a parameter group.
        storage: The group's, validated.
        weigh_by_size: As in a parameter group.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: With the way out.
    """
    if not isinstance(weigh_by_size, bool):
        raise TypeError(f"weigh_by_size must be True or False, got {weigh_by_size!r}")
    if is_elementwise(structure):
        if weigh_by_size:
            raise ValueError(
                "weigh_by_size=True weighs groups that share gates, and structure=None has none: give a "
                "structure, or leave it out"
            )
        return
    if not isinstance(structure, str | tuple):
        raise TypeError(
            f"structure must be None, a name, a tuple of a name and numbers as ('head', 8), or a tuple "
            f"of the dimensions that a gate keeps, got {structure!r}"
        )
    grouping_of(structure)
    if storage != "full":
        raise ValueError(
            f"structure={structure!r} keeps one full factor and gates a group, which "
            f"storage={storage!r} has no way for: leave storage out"
        )


@functools.cache
def grouping_of(structure: str | tuple[str | int, ...]) -> Grouping:
    """Find the groups that a structure means.

    Args:
        structure: A name in `STRUCTURES`, one with its numbers as ``("head", 8)``, or the dimensions
            that a gate keeps, as ``(0, 2)``.

    Raises:
        ValueError: If there is no such structure, or it lacks its number.
    """
    if isinstance(structure, str):
        structure = (structure,)
    if all(type(part) is int for part in structure):
        return _of_dimensions(structure)
    name, *numbers = structure
    if len([part for part in structure if isinstance(part, str)]) > 1:
        raise ValueError(
            f"structure={structure!r} asks for several structures on one tensor (gates over factors, or "
            "over other gates), which is not implemented; choose one"
        )
    if name not in STRUCTURES:
        known = (None, ELEMENTWISE, *STRUCTURES)
        raise ValueError(f"unknown structure {name!r}; use one of {known}, or a tuple of dimensions")
    found = STRUCTURES[str(name)]
    if isinstance(found, Grouping):
        if numbers:
            raise ValueError(f"structure={name!r} takes no number, got {structure!r}")
        return found
    if len(numbers) != 1 or type(numbers[0]) is not int or numbers[0] < 1:
        raise ValueError(
            f"structure={name!r} needs a number of heads, at least 1: structure=({name!r}, 8), got "
            f"{structure!r}"
        )
    return found(*numbers)


def _of_dimensions(dims: tuple[object, ...]) -> Grouping:
    keeps = tuple(sorted({dim for dim in dims if isinstance(dim, int)}))
    if len(keeps) != len(dims) or any(dim < 0 for dim in keeps):
        raise ValueError(
            f"structure={dims!r} must name dimensions that a gate keeps, each once and from 0 on"
        )
    return Grouping(keeps)
