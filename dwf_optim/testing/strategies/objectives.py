"""A strategy of small objectives with data."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from dwf_optim.testing.objective import KINDS, Kind, Objective


def objectives(kinds: Sequence[Kind] = KINDS, largest_features: int = 4) -> st.SearchStrategy[Objective]:
    """Draw an objective of one weight vector.

    Args:
        kinds: Which ones: convex quadratics, logistic and Huber regression, and a small network.
        largest_features: Features at most.

    Returns:
        A strategy of `dwf_optim.testing.Objective`.
    """
    features, seeds = st.integers(1, largest_features), st.integers(0, 2**32 - 1)
    return st.builds(Objective, kind=st.sampled_from(list(kinds)), features=features, seed=seeds)
