"""Hypothesis strategies: depths, shapes, penalties, weights, factors and objectives."""

from dwf_optim.testing.strategies.numbers import depths, penalties, shapes
from dwf_optim.testing.strategies.objectives import objectives
from dwf_optim.testing.strategies.tensors import factors, weights

__all__ = ["depths", "factors", "objectives", "penalties", "shapes", "weights"]
