"""A minimum over weights is one over factors, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dwf_optim.testing import truth
from dwf_optim.testing.assertions.inputs import check_penalty
from dwf_optim.testing.counterexample import fail


def assert_same_minimum(
    objective: Callable[[Tensor], Tensor],
    weight: Tensor,
    *,
    penalty: float,
    depth: int,
    tolerance: float,
) -> None:
    r"""Assert that a weight is a local minimum of the sparse problem, and its factors of the smooth one.

    .. math::

        L(w) + \lambda \|w\|_{2/D}^{2/D}
        \qquad\text{and}\qquad
        L\big(\textstyle\prod_d f_d\big) + \frac{\lambda}{D} \sum_d \|f_d\|^2

    at ``w`` and at its balanced factors. Checked are the conditions of first and second order, with
    :math:`q = 2/D`, g and H the derivatives of L:

    - :math:`|g_i + \lambda q |w_i|^{q-1} \operatorname{sign} w_i| \le` ``tolerance`` where
      :math:`w_i \ne 0`;
    - :math:`|g_i| \le \lambda` + ``tolerance`` where :math:`w_i = 0`, at D = 2; at D > 2 every zero is
      a local minimum, since the penalty's slope is infinite there;
    - :math:`H + \lambda q (q - 1) \operatorname{diag} |w|^{q-2}` on the nonzero weights has no negative
      eigenvalue, and nor has the Hessian by all factors.

    Args:
        objective: ``L``, twice differentiable: of a tensor like the weight, a 0-d tensor. Called in
            float64.
        weight: Where a training has ended, with exact zeros; small, since Hessians of it are formed.
        penalty: ``lambda``.
        depth: ``D >= 2``.
        tolerance: How large a gradient the training has left, in units of the gradient, >= 0. A run
            that is stopped leaves one, so only the caller can say.

    Raises:
        AssertionError: Naming the condition that fails, and the weight.
        ValueError: If penalty or tolerance is negative, or the depth below 2.

    The bound is a backward error. Let r be the gradients that are left, at most ``tolerance``. Then
    ``w`` is exactly stationary for the objective :math:`L(v) - r^T v`, which has the same curvature
    everywhere; so the second-order conditions are those of a problem within the tolerance, and need no
    slack but for the eigenvalues' own rounding: :math:`n\,\epsilon` times the norm of the n by n matrix
    in float64, scaled first to a diagonal of size 1, which keeps the signs of eigenvalues.
    """
    check_penalty(penalty)
    if depth < 2:
        raise ValueError(f"depth must be >= 2, got {depth}: without factors there is no second problem")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}")
    shape, w, q = weight.shape, weight.detach().double().flatten(), 2 / depth
    case = {"weight": weight, "penalty": penalty, "depth": depth}

    def loss(v: Tensor) -> Tensor:
        return objective(v.view(shape))

    kept = w != 0
    gradient = torch.func.grad(loss)(w)
    slope = torch.where(kept, penalty * q * w.abs().pow(q - 1).copysign(w), 0.0)
    # At zero the penalty's own slope may be anything between its two sides.
    play = penalty if depth == 2 else torch.inf
    rest = torch.where(kept, gradient + slope, gradient - gradient.clamp(-play, play))
    if bool((rest.abs() > tolerance).any()) or bool(rest.isnan().any()):
        worst = int(rest.abs().nan_to_num(nan=torch.inf).argmax())
        numbers = {
            "element": worst,
            "its value": float(w[worst]),
            "gradient left": float(rest[worst]),
            "tolerance": tolerance,
        }
        fail("the weight is not stationary for the sparse problem", numbers, case)

    hessian = torch.func.hessian(loss)(w)
    bend = penalty * q * (q - 1) * w[kept].abs().pow(q - 2)
    _check_curvature("the sparse problem", hessian[kept][:, kept] + bend.diag(), case)

    def smooth(flat: Tensor) -> Tensor:
        factors = list(flat.view(depth, -1))
        product = truth.product(factors)
        return loss(product) - rest @ product + truth.factor_penalty(factors, penalty)

    at = torch.cat(truth.balanced(w, depth))
    _check_curvature("the factors' problem", torch.func.hessian(smooth)(at), case)


def _check_curvature(problem: str, hessian: Tensor, case: dict[str, object]) -> None:
    """Refuse a negative eigenvalue."""
    size = len(hessian)
    if size == 0:
        return
    diagonal = hessian.diagonal().abs()
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    scaled = scale[:, None] * hessian * scale
    least = float(torch.linalg.eigvalsh(scaled)[0])
    allowed = size * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(scaled))
    if not least >= -allowed:
        numbers = {"least curvature": least, "may be": -allowed}
        fail(f"the weight is no local minimum of {problem}: it can be left downwards", numbers, case)
