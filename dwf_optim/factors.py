"""The mathematics of deep weight factorization, as pure functions of tensors.

A weight ``w`` is the elementwise product ``f_1 * f_2 * ... * f_D`` of ``D`` factors. This file is the
only place where that product, its derivatives and its penalties are written in Python; every step
backend is tested against it, and it against float64 autograd.

============  =========================================  ==========================
name here     paper                                      meaning
============  =========================================  ==========================
``factors``   ``omega_1 .. omega_D``                     the hidden factors
``depth``     ``D``                                      how many there are
``penalty``   ``lambda``                                 strength of the regularizer
``weight``    ``varpi``                                  the collapsed product
============  =========================================  ==========================

Source: Kolb, Weber, Bischl, Rügamer, "Deep Weight Factorization", ICLR 2025, arXiv 2502.02496.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def product(factors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Multiply the factors, from the first to the last.

    The order is part of the state format: in floating point another order is another weight, and a
    resumed run would no longer be bit-exact.

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype.
        out: Optional tensor of that shape and dtype to write into; it may be the first factor.

    Returns:
        ``((f_1 * f_2) * f_3) * ...`` of that shape and dtype: ``out``, or a new tensor.
    """
    if len(factors) == 1:
        return factors[0].clone() if out is None else out.copy_(factors[0])
    weight = torch.mul(factors[0], factors[1], out=out)
    for factor in factors[2:]:
        weight.mul_(factor)
    return weight


def leave_one_out(
    factors: Sequence[Tensor],
    start: Tensor | None = None,
    out: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Multiply, for every factor, all the others: ``out_d = start * prod_{e != d} f_e``.

    A running product from the left meets one from the right, so there is no division: the result is
    exact where one factor is zero, and costs ``3 D - 4`` multiplications instead of ``D^2``.

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype.
        start: Optional tensor of the same shape that every product begins with; cast to their dtype.
        out: Optional ``D`` tensors of that shape and dtype to write into. None of them may be one
            of ``factors`` or ``start``.

    Returns:
        ``D`` tensors: ``out``, or new ones.
    """
    room: list[Tensor | None] = [None] * len(factors) if out is None else list(out)
    start = torch.ones_like(factors[0]) if start is None else start.to(factors[0].dtype)
    if len(factors) == 1:
        return [product([start], out=room[0])]
    results = [start]
    for d in range(1, len(factors)):
        results.append(torch.mul(results[-1], factors[d - 1], out=room[d]))
    right = factors[-1]
    for d in range(len(factors) - 2, 0, -1):
        results[d].mul_(right)
        # Until it gets its own, the first one's room is for the product from the right.
        right = torch.mul(right, factors[d], out=room[0])
    results[0] = torch.mul(right, start, out=room[0])
    return results


def factor_gradients(
    factors: Sequence[Tensor],
    grad: Tensor,
    penalty: float,
    out: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    r"""Differentiate the penalized loss by each factor.

    .. math:: \partial_{f_d} = g \prod_{e \ne d} f_e + \frac{2 \lambda}{D} f_d

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype (paper: ``omega_d``).
        grad: Gradient ``g`` of the loss by the weight, same shape; cast to the factors' dtype.
        penalty: ``lambda``. A negative number turns the penalty round (for ``maximize``).
        out: Optional ``D`` tensors to write into, as in `leave_one_out`.

    Returns:
        ``D`` tensors: ``out``, or new ones.
    """
    # Laid out like the factors, because a base's fused kernel walks both in the order of memory.
    room = [torch.empty_like(factor) for factor in factors] if out is None else out
    gradients = leave_one_out(factors, start=grad, out=room)
    if penalty != 0:
        decay = 2 * penalty / len(factors)
        for gradient, factor in zip(gradients, factors, strict=True):
            gradient.add_(factor, alpha=decay)
    return gradients


def factor_penalty(factors: Sequence[Tensor]) -> Tensor:
    r"""Sum the factors' squares: ``(1/D) sum_d ||f_d||^2``, the L2 penalty at ``lambda = 1``.

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype.

    Returns:
        A 0-d tensor; never below ``quasi_norm(product(factors), D)``.
    """
    total = factors[0].square().sum()
    for factor in factors[1:]:
        total = total + factor.square().sum()
    return total / len(factors)


def quasi_norm(weight: Tensor, depth: int) -> Tensor:
    r"""Sum ``|w|^{2/D}``: the non-convex penalty ``||w||_{2/D}^{2/D}`` that the factors' L2 induces.

    Args:
        weight: Any shape.
        depth: ``D``; 1 is the squared L2 norm, 2 the L1 norm, 4 the L_{1/2} quasi-norm to the 1/2.

    Returns:
        A 0-d tensor.
    """
    return weight.abs().pow(2 / depth).sum()


def misalignment(factors: Sequence[Tensor]) -> Tensor:
    r"""Measure how far the factors are from balanced, in units of the penalty.

    .. math:: M = \frac{1}{D} \sum_d \|f_d\|^2 - \|w\|_{2/D}^{2/D} \ge 0

    It is zero exactly when all ``|f_d|`` are equal; the factorized objective exceeds the collapsed
    one by ``lambda * M``.

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype.

    Returns:
        A 0-d tensor.
    """
    return factor_penalty(factors) - quasi_norm(product(factors), len(factors))


def match(candidates: Sequence[Tensor], weight: Tensor) -> list[Tensor]:
    r"""Rescale candidate factors so that their product is a given weight.

    Each candidate is scaled by ``(|w| / |prod candidates|)^{1/D}``, which keeps their ratios and
    signs; the last factor then solves the product exactly, ``f_D = w / (f_1 ... f_{D-1})``, so the
    product differs from ``w`` by the two roundings of that division and its multiplication, at most
    2 ulp, and takes the sign of ``w``. Where ``w`` is zero all factors are: a fixed point of
    training. Where the candidates' product is zero, the factors start balanced.

    Args:
        candidates: ``D >= 1`` tensors of ``weight``'s shape, in the factors' dtype.
        weight: The weight to represent; cast to the factors' dtype.

    Returns:
        ``D`` new tensors of that shape and dtype.
    """
    depth = len(candidates)
    weight = weight.to(candidates[0].dtype)
    size = product(candidates).abs_()
    usable = (size > 0) & size.isfinite()
    # Roots before the quotient: |w| / |prod| itself can overflow where the scale does not.
    root = weight.abs().pow_(1 / depth)
    scale = root / torch.where(usable, size, 1.0).pow_(1 / depth)
    zero = weight == 0
    factors = [
        torch.where(usable, candidate, 1.0).mul_(scale).masked_fill_(zero, 0) for candidate in candidates
    ]
    if depth == 1:
        return [weight.clone()]
    factors[-1] = (weight / product(factors[:-1])).masked_fill_(zero, 0)
    return factors


def zero_where(mask: Tensor, tensors: Sequence[object]) -> None:
    """Zero, in place, the masked elements of every tensor that has the mask's shape.

    Args:
        mask: Boolean.
        tensors: Tensors of any shape, and numbers; what does not have the mask's shape (a step
            counter) is left alone.
    """
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.shape == mask.shape:
            tensor.masked_fill_(mask, 0)


def flush_dead(
    factors: Sequence[Tensor], elementwise_state: Sequence[object], scratch: Tensor | None = None
) -> None:
    """Zero the weights that underflow has killed, with their factors and base state.

    A weight is dead when every ``|f_d|`` is below ``tiny^(1/D)``, ``tiny`` being the dtype's
    smallest normal number: its product is then below ``tiny`` and no gradient can bring it back.
    Left alone, such factors linger as denormals, on which arithmetic is many times slower. NaN compares
    false and stays NaN.

    Args:
        factors: ``D >= 1`` tensors of one shape and dtype, changed in place.
        elementwise_state: The base optimizer's state values for these factors, changed in place.
        scratch: Optional tensor like a factor, to compute in.
    """
    bound = torch.finfo(factors[0].dtype).tiny ** (1 / len(factors))
    # On a CPU it is cheap to see that none is, as nearly always; elsewhere that waits for the device.
    on_cpu = factors[0].device.type == "cpu" and factors[0].numel() > 0
    largest = torch.abs(factors[0], out=scratch)
    if on_cpu and float(largest.amin()) >= bound:
        return
    for factor in factors[1:]:
        torch.maximum(largest, factor.abs(), out=largest)
    # As a number, because torch's kernels for booleans are ten times slower on a CPU.
    dead = largest.lt_(bound)
    if on_cpu and float(dead.amax()) == 0:
        return
    bits = _BITS[dead.dtype]
    kept_bits = dead.to(bits).sub_(1)
    for tensor in [*factors, *elementwise_state]:
        if not (isinstance(tensor, Tensor) and tensor.shape == dead.shape):
            continue
        if tensor.dtype == dead.dtype:
            tensor.view(bits).bitwise_and_(kept_bits)
        else:
            tensor.masked_fill_(kept_bits == 0, 0)


# Integers of the same width.
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}
