"""Weights that share gates, as the compiled extension steps them.

In the order of memory such a weight has to have at most three dimensions: within a group, by group, and
within a group again. Filters, neurons and heads are rows of memory, which are stepped one after the
other, in one pass; inputs are columns, of which some are stepped together, in two.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dwf_optim.storage import Gated, Storage
from dwf_optim.structure import grouping_of

Split = tuple[int, tuple[int, ...]]


def kernel_of(mode: Storage) -> str:
    """Return the extension's name of a way to keep factors."""
    return "GATED" if isinstance(mode, Gated) else mode.name.upper()


def split_of(mode: Storage) -> Split | None:
    """Return what tells groups apart besides the shape of the gates.

    Args:
        mode: The way factors are kept.

    Returns:
        A dimension and the sizes that it is split into, which are none where it is not; None where
        weights have no gates.
    """
    if not isinstance(mode, Gated):
        return None
    return grouping_of(mode.structure).split or (0, ())


def weighs_by_size(mode: Storage) -> bool:
    """Say whether a group's penalty is multiplied by the root of its number of elements."""
    return isinstance(mode, Gated) and mode.weigh_by_size


def why_not(mode: Storage, shape: Sequence[int]) -> str | None:
    """Say why groups of a contiguous weight cannot be stepped.

    Args:
        mode: The way factors are kept.
        shape: The weight's.

    Returns:
        The reason; None if they can be.
    """
    if not isinstance(mode, Gated):
        return None
    grouping = grouping_of(mode.structure)
    gate = grouping.gate_shape(shape)
    sizes = grouping.view_shape(shape)
    kept = [one == size for one, size in zip(gate, sizes, strict=True) if size > 1]
    if sum(1 for tells_apart, _ in itertools.groupby(kept) if tells_apart) <= 1:
        return None
    return f"structure={mode.structure!r} has groups that are scattered over memory, not rows or columns"
