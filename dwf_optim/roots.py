r"""The mathematics of one root per weight, as pure functions of tensors.

Balanced factors start as ``f_1 = ... = f_{D-1} = r`` and ``f_D = s r`` with ``r = |w|^{1/D}`` and
``s`` the sign of ``w`` (`dwf_optim.init`, "balanced"). Their gradients then differ by that sign only,

.. math:: g_1 = \dots = g_{D-1} = s\, g\, r^{D-1} + \tfrac{2 \lambda}{D} r, \qquad g_D = s\, g_1,

so under a base that steps ``(-f, -g)`` as the mirror image of ``(f, g)`` they stay ``r, ..., r, s r``
for good, and one *root* says it all:

- Odd D: the root is ``s r`` of either sign, with ``w = root^D`` and the gradient
  ``g root^{D-1}`` plus penalty.
- Even D: the root is ``r``, which may cross zero too, with ``w = s r^D``. The sign ``s`` never changes.
  It is kept as the sign bit of the weight, which floating-point zeros have too.

Derived here; nothing of it is published.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dwf_optim.factors import product


def root_of(weight: Tensor, depth: int) -> Tensor:
    r"""Take the root of a weight, to a few roundings.

    Args:
        weight: Any shape, float32 or wider.
        depth: ``D >= 2``.

    Returns:
        A new tensor of that shape and dtype: :math:`|w|^{1/D}`, for odd D with the sign of ``w``.
    """
    root = weight.abs()
    if depth & (depth - 1) == 0:
        # Exact to half an ulp, and many times faster than a power.
        for _ in range(depth.bit_length() - 1):
            root.sqrt_()
    else:
        root.pow_(1 / depth)
    return root.copysign_(weight) if depth % 2 else root


def nearest_root(weight: Tensor, depth: int) -> Tensor:
    """Take the root of a weight so exactly that its power is the weight to D ulp.

    Args:
        weight: Any shape and floating dtype.
        depth: ``D >= 2``.

    Returns:
        As `root_of`, in float32 or wider.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    exact = weight.double()
    root = root_of(exact, depth)
    # One step of Newton's method, so that float64 weights too get the nearest root or its neighbour.
    quotient = exact.abs() / product([root.abs()] * (depth - 1))
    if depth % 2:
        quotient.copysign_(exact)
    root = torch.where(quotient.isfinite(), root + (quotient - root) / depth, root)
    return root.to(dtype)


def power(root: Tensor, weight: Tensor, depth: int, out: Tensor | None = None) -> Tensor:
    """Raise a root to the weight that it stands for.

    Args:
        root: Any shape, float32 or wider.
        weight: The weight as it was before, whose sign counts at even depth.
        depth: ``D``.
        out: Optional tensor like ``root`` to write into.

    Returns:
        ``out``, or a new tensor.
    """
    raised = product([root] * depth, out=out)
    return raised if depth % 2 else raised.copysign_(weight)


def root_gradient(
    root: Tensor, weight: Tensor, grad: Tensor, penalty: float, depth: int, out: Tensor | None = None
) -> Tensor:
    r"""Differentiate the penalized loss by each of the balanced factors, which is the same for all.

    .. math:: \sigma\, g\, r^{D-1} + \tfrac{2 \lambda}{D} r

    with :math:`\sigma = 1` for odd D and the weight's sign for even D. (Not the derivative by the root
    itself, which is D times that.)

    Args:
        root: ``r``, any shape, float32 or wider.
        weight: The weight, same shape, whose sign counts at even depth.
        grad: Gradient ``g`` of the loss by the weight, same shape; cast to the root's dtype.
        penalty: ``lambda``; negative turns it round.
        depth: ``D``.
        out: Optional tensor like ``root`` to write into.

    Returns:
        ``out``, or a new tensor.
    """
    gradient = torch.empty_like(root) if out is None else out
    gradient.copy_(grad)
    if depth % 2 == 0:
        gradient.mul_(sign_of(weight).to(root.dtype))
    for _ in range(depth - 1):
        gradient.mul_(root)
    if penalty != 0:
        gradient.add_(root, alpha=2 * penalty / depth)
    return gradient


def balanced_factors(root: Tensor, weight: Tensor, depth: int) -> list[Tensor]:
    """Write a root out as the factors it stands for.

    Args:
        root: Any shape, float32 or wider.
        weight: The weight, whose sign counts at even depth.
        depth: ``D``.

    Returns:
        ``D`` new tensors, equal but for the last one's sign.
    """
    factors = [root.clone() for _ in range(depth)]
    if depth % 2 == 0:
        factors[-1].mul_(sign_of(weight).to(root.dtype))
    return factors


def sign_of(weight: Tensor) -> Tensor:
    """Return 1 or -1 by the sign bit, which zeros have too; same shape and dtype as the weight."""
    return torch.copysign(torch.ones((), dtype=weight.dtype, device=weight.device), weight)
