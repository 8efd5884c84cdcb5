"""Local minimization over factors by SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from tests.properties.conditions import factor_residuals
from tests.reference.autograd import factor_penalty, multiply

Objective = Callable[[Tensor], Tensor]


def over_factors(objective: Objective, start: Tensor, penalty: float) -> list[Tensor]:
    """A local minimum of L(prod f) + lambda/D sum ||f_d||^2, from a start: BFGS, then Newton's method.

    Args:
        objective: Of a vector.
        start: D rows, one a factor.
        penalty: lambda.
    """

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = torch.from_numpy(flat).view(start.shape).requires_grad_()
        loss = objective(multiply(list(rows))) + penalty * factor_penalty(list(rows))
        (gradient,) = torch.autograd.grad(loss, rows)
        return float(loss.detach()), gradient.flatten().numpy()

    options = {"gtol": 1e-8, "maxiter": 2000}
    found = scipy.optimize.minimize(
        value, start.flatten().numpy(), jac=True, method="BFGS", options=options
    )
    rows = torch.from_numpy(found.x).view(start.shape)
    for _ in range(2):
        rows = _closer(objective, rows, penalty)
    return list(rows)


def _closer(objective: Objective, rows: Tensor, penalty: float) -> Tensor:
    """One step of Newton's method, unless it leaves more of the gradient than there was."""

    def smooth(flat: Tensor) -> Tensor:
        factors = list(flat.view(rows.shape))
        return objective(multiply(factors)) + penalty * factor_penalty(factors)

    def left(at: Tensor) -> Tensor:
        return torch.cat(factor_residuals(objective, list(at), penalty))

    hessian = torch.func.hessian(smooth)(rows.flatten())
    step = torch.linalg.lstsq(hessian, left(rows)[:, None]).solution.view(rows.shape)
    after = rows - step
    return after if bool(left(after).norm() < left(rows).norm()) else rows
