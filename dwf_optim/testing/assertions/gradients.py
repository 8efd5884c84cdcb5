"""The chain rule through the product, and L2's own gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.testing import truth
from dwf_optim.testing.assertions.inputs import check_factors, check_penalty
from dwf_optim.testing.counterexample import check_close, name_factors
from dwf_optim.testing.rounding import gamma, majorant, underflow


def assert_factor_gradients(
    found: Sequence[Tensor | None], factors: Sequence[Tensor], upstream: Tensor, *, penalty: float = 0.0
) -> None:
    r"""Assert that gradients by factors are those of the penalized loss.

    .. math:: \partial_{f_d} = g \prod_{e \ne d} f_e + \frac{2 \lambda}{D} f_d

    Args:
        found: ``D`` gradients: what your code computes, or the ``.grad`` of factors after
            ``backward()``.
        factors: ``D`` tensors of one shape and dtype.
        upstream: ``g``, the gradient of the loss by the weight, of that shape.
        penalty: ``lambda`` of :math:`\frac{\lambda}{D} \sum_d \|f_d\|^2`; 0 where the loss has no
            penalty.

    Raises:
        AssertionError: With factors and gradients, naming the element that is farthest off.
        TypeError: If factors are not floating-point tensors.
        ValueError: If they differ in number, shape or dtype, or the penalty is negative.

    The bound: the first term is a product of ``D`` numbers, at most ``D`` roundings in whatever order,
    the second one of three (lambda's, two operations), and one more where a product is formed first and
    then multiplied; they are summed. That is :math:`\gamma_{D + 5}` of the *sum of the terms'
    magnitudes*, since they may cancel, in the dtype of the factors or the gradient, whichever is less
    precise; and what underflows. float64 rounds the expected value itself: once more that bound in
    float64. Where a product of some of the numbers may overflow, nothing is said.
    """
    factors = check_factors(factors)
    check_penalty(penalty)
    depth = len(factors)
    if len(found) != depth:
        raise ValueError(f"there are {depth} factors and {len(found)} gradients: give one a factor")
    if upstream.shape != factors[0].shape:
        raise ValueError(
            f"upstream has shape {tuple(upstream.shape)}, the factors {tuple(factors[0].shape)}: give "
            "the gradient by the weight"
        )
    wide, g = truth.exact(factors), upstream.detach().double()
    representable = (
        majorant([*factors, upstream]) * max(1.0, penalty) < torch.finfo(factors[0].dtype).max
    )
    case = {**name_factors(factors), "upstream": upstream, "penalty": penalty}
    for d, gradient in enumerate(found):
        if gradient is None:
            raise AssertionError(
                f"factor f_{d + 1} has no gradient: it does not take part in the product"
            )
        first, second = g * truth.others(wide, d), 2 * penalty / depth * wide[d]
        size = first.abs() + second.abs()
        coarse = max((factors[0].dtype, gradient.dtype), key=lambda dtype: torch.finfo(dtype).eps)
        share = gamma(depth + 5, coarse) + gamma(depth + 5, torch.float64)
        allowed = share * size + underflow([*factors, upstream]) * max(1.0, penalty)
        allowed = torch.where(representable, allowed, torch.inf)
        law = f"the gradient by f_{d + 1} is not g * (the other factors) + 2 * penalty / D * f_{d + 1}"
        check_close(law, gradient, first + second, allowed, case)
