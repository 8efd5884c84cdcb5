"""Strategies of numbers: how many factors, how many elements, how strong a penalty."""

from __future__ import annotations

from hypothesis import strategies as st

Shape = tuple[int, ...]


def depths(smallest: int = 2, largest: int = 8) -> st.SearchStrategy[int]:
    """Draw how many factors a weight has.

    Args:
        smallest: At least; 1 is a weight that is not factorized.
        largest: At most.

    Returns:
        A strategy of ``D``.
    """
    return st.integers(smallest, largest)


def shapes(
    smallest_ndim: int = 0, largest_ndim: int = 2, largest_side: int = 3
) -> st.SearchStrategy[Shape]:
    """Draw the shape of a small tensor, never an empty one.

    Args:
        smallest_ndim: Dimensions at least; 0 is a scalar.
        largest_ndim: Dimensions at most.
        largest_side: Length of a dimension at most.

    Returns:
        A strategy of tuples, which shrinks to few and short dimensions.
    """
    sides = st.integers(1, largest_side)
    return st.lists(sides, min_size=smallest_ndim, max_size=largest_ndim).map(tuple)


def penalties(smallest: float = 0.0, largest: float = 10.0) -> st.SearchStrategy[float]:
    """Draw the strength ``lambda`` of the penalty: often one as trainings have it.

    Args:
        smallest: At least, >= 0; from 0, numbers between 0 and 1e-6 are left out.
        largest: At most.

    Returns:
        A strategy of floats.
    """
    ends = [smallest, largest]
    usual = [value for value in (1e-4, 1e-3, 0.01, 0.1, 1.0) if smallest < value < largest]
    return st.sampled_from(ends + usual) | st.floats(max(smallest, min(1e-6, largest)), largest)
