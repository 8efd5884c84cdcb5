"""Depth 2 is the Lasso of scikit-learn; above it, trainings end in minima of the collapsed objective."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.testing import Objective, assert_same_minimum, objectives, penalties
from tests.helpers import seeded, step_with
from tests.properties.conditions import collapse
from tests.properties.minimize import over_factors

STEPS = 4000
SEEDS = st.integers(0, 2**32 - 1)


def standardized() -> tuple[np.ndarray, np.ndarray]:
    """Diabetes with columns and target of mean 0 and variance 1, so that coefficients are below 1."""
    inputs, target = load_diabetes(return_X_y=True)
    return (inputs - inputs.mean(0)) / inputs.std(0), (target - target.mean()) / target.std()


@pytest.mark.parametrize("penalty", [0.02, 0.05, 0.15])
def test_collapsed_solution_is_scikit_learns_lasso(penalty: float) -> None:
    """On real data, by our optimizer: argmin_w ||y - X w||^2 / 2n + lambda ||w||_1, support and all.

    Coefficients are compared to a thousandth of a usual one, which is what so many steps leave; the next
    property derives its bound.
    """
    inputs, target = standardized()
    lasso = Lasso(alpha=penalty, fit_intercept=False, tol=1e-14, max_iter=10**6)
    expected = torch.from_numpy(lasso.fit(inputs, target).coef_)
    assert 0 < int((expected == 0).sum()) < 10  # a support worth finding

    model = nn.Linear(10, 1, bias=False, dtype=torch.float64)
    least_squares = np.linalg.lstsq(inputs, target, rcond=None)[0]
    wrong = torch.tensor([-1.0, 1.0] * 5, dtype=torch.float64)  # every second sign is wrong
    start = wrong * torch.from_numpy(np.sign(least_squares)) * 0.3
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = DWFOptimizer(model.parameters(), lr=0.03, momentum=0.9, penalty=penalty, depth=2)

    features, labels = torch.from_numpy(inputs), torch.from_numpy(target)
    gram, moment = features.T @ features / len(labels), features.T @ labels / len(labels)
    for _ in range(STEPS):
        # The gradient of 1/(2n) ||y - X w||^2, on its 10 x 10 sufficient statistics.
        model.weight.grad = (gram @ model.weight.detach()[0] - moment)[None]
        optimizer.step()
    sparsify(model, optimizer)

    found = model.weight.detach()[0]
    # Some signs that were wrong had to be crossed, not only shrunk away.
    assert bool((start * expected < 0).any())
    assert torch.equal(found != 0, expected != 0)
    assert float((found - expected).abs().max()) <= 1e-4


def duality_gap(objective: Objective, weight: Tensor, penalty: float) -> float:
    """How far ||y - X w||^2 / 2n + lambda ||w||_1 is above its minimum, at most.

    The dual point is the residual, scaled until |X^T theta| <= lambda n.
    """
    rows, targets = objective.data()
    n, residual = len(rows), targets - rows @ weight
    correlation = float((rows.T @ residual).abs().max()) / n
    theta = residual * min(1.0, penalty / correlation) if correlation > 0 else residual
    primal = float(residual.square().sum()) / (2 * n) + penalty * float(weight.abs().sum())
    dual = float(targets.square().sum() - (targets - theta).square().sum()) / (2 * n)
    return max(primal - dual, 0.0) + 64 * 2**-52 * primal


@given(objective=objectives(("quadratic",)), penalty=penalties(0.01, 1.0), seed=SEEDS)
def test_minimum_over_two_factors_is_the_lasso(objective: Objective, penalty: float, seed: int) -> None:
    """min_f L(f_1 f_2) + (lambda/2) (||f_1||^2 + ||f_2||^2) = min_w L(w) + lambda ||w||_1.

    The objective is convex with curvature mu, the least eigenvalue of X^T X / n. A point that is above
    the minimum by a duality gap of d is within sqrt(2 d / mu) of the coefficients.
    """
    rows, targets = objective.data()
    start = torch.randn(2, objective.size, generator=seeded(seed), dtype=torch.float64)
    found, _ = collapse(objective, over_factors(objective, start, penalty), penalty)
    lasso = Lasso(alpha=penalty, fit_intercept=False, tol=1e-15, max_iter=10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tol below what float64 can reach
        expected = torch.from_numpy(lasso.fit(rows.numpy(), targets.numpy()).coef_)
    ours, theirs = (duality_gap(objective, w, penalty) for w in (found, expected))

    def collapsed(w: Tensor) -> float:
        return float(objective(w)) + penalty * float(w.abs().sum())

    assert abs(collapsed(found) - collapsed(expected)) <= max(ours, theirs)
    curvature = float(torch.linalg.eigvalsh(rows.T @ rows / len(rows))[0])
    apart = (2 * ours / curvature) ** 0.5 + (2 * theirs / curvature) ** 0.5
    assert float((found - expected).norm()) <= apart
    assert ours <= 1e-7 * (1 + collapsed(expected))
    # The support too, wherever a coefficient is not as near to zero as the two may be apart.
    certain = expected.abs() > apart
    assert bool((found != 0)[certain].all())
    slack = penalty - objective.gradient(expected).abs()
    assert bool((found == 0)[slack > objective.curvature() * apart + 1e-7].all())


_profile = settings()
# A training takes long, so only the thorough profile has as many examples of it as of others.
_PART = 10 if _profile.max_examples < 1000 else 1


@settings(max_examples=_profile.max_examples // _PART)
@given(
    objective=objectives(("quadratic", "logistic", "huber"), largest_features=3),
    depth=st.sampled_from([3, 4]),
    penalty=penalties(0.02, 0.3),
    seed=SEEDS,
)
def test_trainings_end_in_a_minimum_of_the_collapsed_objective(
    objective: Objective, depth: int, penalty: float, seed: int
) -> None:
    """At depth 3 and 4, where SGD on the factors ends: first- and second-order conditions to 1e-6."""
    start = torch.randn(1, objective.size, generator=seeded(seed), dtype=torch.float64)
    weight = Parameter(start.clone())
    options = {"penalty": penalty, "depth": depth, "lr_scale": 1.0, "seed": seed % 1000}
    optimizer = DWFOptimizer([weight], lr=0.05, momentum=0.9, **options)
    for _ in range(1500):
        step_with(optimizer, {weight: objective.gradient(weight)})

    def of_a_row(w: Tensor) -> Tensor:
        return objective(w)

    ended, left = collapse(of_a_row, optimizer.factors(weight), penalty)
    assume(left <= 1e-6)  # 1500 steps are not enough where a curvature is nearly zero
    assert_same_minimum(of_a_row, ended, penalty=penalty, depth=depth, tolerance=1e-6)
