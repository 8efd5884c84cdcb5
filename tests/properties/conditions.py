"""What is left to do where a minimization over factors has stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.reference.autograd import factor_penalty, multiply

Objective = Callable[[Tensor], Tensor]


def factor_residuals(objective: Objective, factors: Sequence[Tensor], penalty: float) -> list[Tensor]:
    """The gradients of L(prod f) + lambda/D sum ||f_d||^2 by the factors, by autograd."""
    leaves = [factor.detach().clone().requires_grad_() for factor in factors]
    loss = objective(multiply(leaves)) + penalty * factor_penalty(leaves)
    return list(torch.autograd.grad(loss, leaves))


def gap(gradient: Tensor, penalty: float, depth: int) -> float:
    """Below this a nonzero weight is not stationary: (lambda q / G)^(1/(1-q)), q = 2/D < 1, G >= |g|."""
    q = 2 / depth
    return float((penalty * q / gradient.abs().max()).pow(1 / (1 - q)))  # inf where there is no gradient


def resolution(objective: Objective, weight: Tensor, penalty: float, depth: int, rows: int) -> float:
    """A gradient of the collapsed problem that float64 cannot tell from none.

    The nearest number to a stationary weight is up to an ulp away from it, where the gradient is up to
    eps |H| |w|, with H the second derivatives of loss and penalty. As much is rounded away when the
    gradient is computed, for each of the rows of data that are added up.
    """
    q, size = 2 / depth, weight.abs().flatten()
    bend = torch.where(size != 0, penalty * q * (1 - q) * size.pow(q - 1), 0.0)
    hessian = torch.func.hessian(objective)(weight).view(len(size), len(size))
    steps = hessian.abs() @ size + bend
    return rows * torch.finfo(torch.float64).eps * float(steps.max())


def collapse(
    objective: Objective, factors: Sequence[Tensor], penalty: float, rows: int = 1
) -> tuple[Tensor, float]:
    r"""The weight with exact zeros, and how large a gradient of the collapsed problem is left.

    With rho_d the gradient by f_d, every weight obeys f_d rho_d = g w + (2 lambda/D) f_d^2. Two of these
    give |f_d^2 - f_e^2| <= (D/lambda) max |f rho|, which bounds the misalignment M of the weight; their
    mean gives w (g + lambda q |w|^(q-1) sign w) = mean f rho - (2 lambda/D) M. So what is left of the
    collapsed gradient is at most 3 max |f rho| / |w|; and it changes by what zeroing changes. None of
    this is known beyond the `resolution`, with ``rows`` of data that the objective adds up.
    """
    depth = len(factors)
    weight = multiply([factor.detach() for factor in factors])
    pull = [
        f * rho for f, rho in zip(factors, factor_residuals(objective, factors, penalty), strict=True)
    ]
    gradient = torch.func.grad(objective)(weight)
    # At depth 2 there is no gap: what the minimization cannot tell from zero.
    least = gap(gradient, penalty, depth) / 2 if depth > 2 else 1e-7
    kept = weight.abs() >= least
    collapsed = torch.where(kept, weight, 0.0)
    left = 3 * torch.stack(pull).detach().abs().amax(0) / weight.abs()
    moved = (torch.func.grad(objective)(collapsed) - gradient).abs().max()
    rest = float(moved) + float(left[kept].max() if bool(kept.any()) else 0.0)
    return collapsed, rest + resolution(objective, collapsed, penalty, depth, rows)
