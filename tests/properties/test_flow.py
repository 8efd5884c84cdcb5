"""Gradient flow on the factors, by SciPy's solver: what it conserves and what it lets decay."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import OdeSolution, solve_ivp
from torch import Tensor

from dwf_optim.testing import Objective, depths, objectives, penalties
from tests.helpers import seeded
from tests.reference.autograd import factor_penalty, multiply

SEEDS = st.integers(0, 2**32 - 1)
RTOL, ATOL = 1e-8, 1e-11
END = 1.0


def flow(objective: Callable[[Tensor], Tensor], start: Tensor, penalty: float) -> OdeSolution:
    """df_d/dt = -(the gradient by f_d), from D rows, up to END."""

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(x).view(start.shape).requires_grad_()
        loss = objective(multiply(list(rows))) + penalty * factor_penalty(list(rows))
        return -torch.autograd.grad(loss, rows)[0].flatten().numpy()

    result = solve_ivp(
        velocity, (0, END), start.flatten().numpy(), method="DOP853", rtol=RTOL, atol=ATOL
    )
    assert result.success, result.message
    return result


def solver_error(result: OdeSolution) -> float:
    """Of f_i^2 - f_j^2.

    A step keeps the root mean square of its error, in units of ATOL + RTOL |f|, below 1, so no component
    is off by more than sqrt(n) of them, f^2 by 2 |f| times that, a difference by twice that. The law
    lets differences decay, so what the steps add does not grow.
    """
    largest = float(np.abs(result.y).max())
    per_step = math.sqrt(len(result.y)) * (ATOL + RTOL * largest)
    return len(result.t) * 4 * largest * per_step


def differences(rows: np.ndarray) -> np.ndarray:
    """f_i^2 - f_1^2, for i > 1."""
    return rows[1:] ** 2 - rows[:1] ** 2


@given(objective=objectives(), depth=depths(2, 4), penalty=penalties(0.0, 2.0), seed=SEEDS)
def test_squares_approach_each_other_exponentially(
    objective: Objective, depth: int, penalty: float, seed: int
) -> None:
    """f_i^2 - f_j^2 = exp(-4 lambda t / D) (f_i^2 - f_j^2 at 0); conserved at lambda = 0."""
    start = torch.randn(depth, objective.size, generator=seeded(seed), dtype=torch.float64)
    result = flow(objective, start, penalty)
    allowed = solver_error(result)
    at_start = differences(start.numpy())
    for t, state in zip(result.t, result.y.T, strict=True):
        expected = at_start * math.exp(-4 * penalty * t / depth)
        assert np.abs(differences(state.reshape(start.shape)) - expected).max() <= allowed


@given(objective=objectives(), depth=depths(2, 4), penalty=penalties(0.0, 2.0), seed=SEEDS)
def test_balanced_factors_stay_balanced_and_keep_their_signs(
    objective: Objective, depth: int, penalty: float, seed: int
) -> None:
    """|f_i| = |f_j| for all t; df_d/dt is f_d times a bounded number then, and f_d never crosses 0."""
    generator = seeded(seed)
    root = torch.rand(objective.size, generator=generator, dtype=torch.float64) + 0.1
    signs = torch.randint(0, 2, (depth, objective.size), generator=generator) * 2 - 1
    start = root * signs
    result = flow(objective, start, penalty)
    allowed = solver_error(result)
    for state in result.y.T:
        rows = state.reshape(start.shape)
        assert np.abs(differences(rows)).max() <= allowed
        # Unless it has come so near to zero that the solver cannot tell.
        certain = np.abs(rows) > math.sqrt(allowed)
        assert (np.sign(rows) == signs.numpy())[certain].all()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_unbalanced_factors_may_change_the_sign(depth: int) -> None:
    """A weight of 0.1 that is drawn to -1: one factor crosses zero where the others are larger."""

    def pull(weight: Tensor) -> Tensor:
        return (weight + 1).square().sum() / 2

    unbalanced = torch.full((depth, 1), 1.0, dtype=torch.float64)
    unbalanced[-1] = 0.1
    root = 0.1 ** (1 / depth)
    balanced = torch.full((depth, 1), root, dtype=torch.float64)
    crossed = flow(pull, unbalanced, 0.01).y[:, -1]
    kept = flow(pull, balanced, 0.01).y[:, -1]
    assert crossed.prod() < -0.5
    assert kept.prod() >= 0
