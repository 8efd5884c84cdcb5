"""L2 on factors is the penalty on the weight that it is claimed to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dwf_optim.testing import truth
from dwf_optim.testing.assertions.inputs import check_factors, check_penalty
from dwf_optim.testing.counterexample import fail, name_factors
from dwf_optim.testing.rounding import gamma, roundings_of_power, underflow

Number = Tensor | float


def assert_penalty_equivalent(
    factor_penalty: Callable[[Sequence[Tensor]], Number],
    factors: Sequence[Tensor],
    *,
    penalty: float = 1.0,
    product: Callable[[Sequence[Tensor]], Tensor] = truth.product,
    weight_penalty: Callable[[Tensor], Number] | None = None,
    split: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> None:
    r"""Assert that a penalty on factors is, at its cheapest, the claimed penalty on their product.

    .. math::

        P(f) \ge Q\big(\textstyle\prod_d f_d\big), \qquad
        P(f) = Q\big(\textstyle\prod_d f_d\big) \text{ for balanced } f

    with :math:`P` the ``factor_penalty`` and :math:`Q(w) = \lambda \|w\|_{2/D}^{2/D}` unless another
    ``weight_penalty`` is claimed. Both are checked: the first on the given factors, the second on
    balanced factors of the same product. Together they say that minimizing over factors is minimizing
    over weights.

    Args:
        factor_penalty: Your penalty on the factors, lambda included: of ``D`` tensors, a number.
        factors: ``D`` tensors of one shape and dtype, as `dwf_optim.testing.factors` draws them.
        penalty: ``lambda`` of the default ``weight_penalty``.
        product: Your product of the factors; default ``f_1 * ... * f_D``.
        weight_penalty: The penalty that you claim: of a weight, a number.
        split: The cheapest factors of a weight, where they are not those of one magnitude.

    Raises:
        AssertionError: With the factors, if the law is broken.
        TypeError: If factors are not floating-point tensors.
        ValueError: If they differ in shape or dtype, or the penalty is negative.

    The bound, for ``n`` weights, ``u`` half the spacing of the dtype at 1, and
    :math:`\gamma_k = k u / (1 - k u)`: P is a sum of ``n D`` positive terms in any order, each squared,
    scaled by ``lambda / D`` (3 roundings) or written as a norm that is squared again (3 more), so off by
    :math:`\gamma_{n D + 6} P`. Q's powers are off by ``4 + |ln |w||`` u, the product's ``D - 1``
    roundings count ``2/D`` times in them, less than 2, and ``n`` terms are summed and scaled (2):
    :math:`\gamma_{n + 8 + \max |\ln |w||} Q`. Where the product underflows by e, the power, which is
    subadditive, is off by :math:`e^{2/D}` at most.
    """
    factors = check_factors(factors)
    check_penalty(penalty)
    depth = len(factors)

    def claimed(weight: Tensor) -> Number:
        if weight_penalty is not None:
            return weight_penalty(weight)
        return penalty * truth.quasi_norm(weight.double(), depth)

    case = {"depth": depth, "penalty": penalty, **name_factors(factors)}
    cost, price, allowed = _compare(factors, factor_penalty(factors), product, claimed, penalty)
    if not cost >= price - allowed:
        fail(
            "the factor penalty is below the claimed penalty of the product",
            {"factor penalty": cost, "claimed": price, "may differ by": allowed},
            case,
        )
    weight = product(factors).detach()
    cheapest = _split(weight, depth) if split is None else check_factors(split(weight))
    cost, price, allowed = _compare(cheapest, factor_penalty(cheapest), product, claimed, penalty)
    if not abs(cost - price) <= allowed:
        fail(
            "the factor penalty of balanced factors is not the claimed penalty of their product",
            {"factor penalty": cost, "claimed": price, "may differ by": allowed},
            {"depth": depth, "penalty": penalty, **name_factors(cheapest)},
        )


def _split(weight: Tensor, depth: int) -> list[Tensor]:
    """Split in float64 and round once, so that magnitudes are equal to the bit."""
    return [factor.to(weight.dtype) for factor in truth.balanced(weight.double(), depth)]


def _compare(
    factors: Sequence[Tensor],
    cost: Number,
    product: Callable[[Sequence[Tensor]], Tensor],
    claimed: Callable[[Tensor], Number],
    penalty: float,
) -> tuple[float, float, float]:
    """Return P, Q and by how much rounding may set them apart."""
    weight = product(factors).detach()
    found, price = float(cost), float(claimed(weight))
    n, depth, dtype = weight.numel(), len(factors), factors[0].dtype
    squares = sum(float(factor.double().square().sum()) for factor in factors)
    lost = penalty * float(underflow(factors).pow(2 / depth).sum())
    # Each of the squares may underflow, then lambda / D, then the result.
    lost += (penalty * n * depth + squares + 1) * torch.finfo(dtype).tiny
    return (
        found,
        price,
        gamma(n * depth + 6, dtype) * abs(found)
        + gamma(n + 8 + roundings_of_power(weight), dtype) * abs(price)
        + lost,
    )
