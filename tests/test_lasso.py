"""The convex check: depth 2 is the lasso, wherever it starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from torch import nn

from dwf_optim import DWFOptimizer, sparsify

STEPS = 4000


def standardized() -> tuple[np.ndarray, np.ndarray]:
    """Diabetes with columns and target of mean 0 and variance 1, so that coefficients are below 1."""
    inputs, target = load_diabetes(return_X_y=True)
    return (inputs - inputs.mean(0)) / inputs.std(0), (target - target.mean()) / target.std()


@pytest.mark.parametrize("penalty", [0.02, 0.05, 0.15])
def test_collapsed_solution_is_scikit_learns_lasso(penalty: float) -> None:
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
