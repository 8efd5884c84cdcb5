r"""The mathematics of structured factorization (D-Gating), as pure functions of tensors.

A group of weights is ``w_j = omega_j * gamma_{j1} * ... * gamma_{j,D-1}``: a vector ``omega_j`` of the
group's size, and ``D - 1`` gates, numbers that its elements share. L2 on all of them is, at every
minimum, the penalty :math:`\lambda \sum_j \|w_j\|_2^{2/D}`, under which whole groups become zero.

Tensors of all groups are handled together: ``omega`` of any shape, gates of a shape that broadcasts
against it, with size 1 in every dimension that runs within a group.

===========  =======================  =======================================
name here    paper                    meaning
===========  =======================  =======================================
``omega``    ``omega_j``              the full factor
``gates``    ``gamma_{jd}``           ``D - 1`` numbers a group
``penalty``  ``lambda``               strength of the regularizer
===========  =======================  =======================================

Source: Kolb et al., "Differentiable Sparsity via D-Gating", arXiv 2509.23898.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.factors import leave_one_out, product


def gated(omega: Tensor, gates: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Multiply the full factor by the product of the gates.

    The gates are multiplied first, which is part of the state format as in `dwf_optim.factors.product`.

    Args:
        omega: The full factor.
        gates: ``D - 1 >= 1`` tensors of one shape that broadcasts against it.
        out: Optional tensor of its shape to write into.

    Returns:
        ``omega * (gamma_1 * gamma_2 * ...)`` of its shape: ``out``, or a new tensor.
    """
    return torch.mul(omega, product(gates), out=out)


def within(gate: Tensor, omega: Tensor) -> tuple[int, ...]:
    """Return the dimensions that run within a group."""
    return tuple(
        dim
        for dim, (one, size) in enumerate(zip(gate.shape, omega.shape, strict=True))
        if one == 1 and size != 1
    )


def gate_gradients(
    omega: Tensor, gates: Sequence[Tensor], grad: Tensor, penalty: float, out: Tensor
) -> list[Tensor]:
    r"""Differentiate the penalized loss by the full factor and by each gate.

    .. math::

        \partial_{\omega_j} = g_j \prod_d \gamma_{jd} + \tfrac{2 \lambda}{D} \omega_j, \qquad
        \partial_{\gamma_{jd}} = \langle \omega_j, g_j \rangle \prod_{e \ne d} \gamma_{je}
        + \tfrac{2 \lambda}{D} \gamma_{jd}

    Args:
        omega: The full factor.
        gates: ``D - 1 >= 1`` tensors of one shape that broadcasts against it, in its dtype.
        grad: Gradient ``g`` of the loss by the weight, of omega's shape; cast to its dtype.
        penalty: ``lambda``. A negative number turns the penalty round (for ``maximize``).
        out: Tensor like omega, for its gradient.

    Returns:
        ``out``, and ``D - 1`` new tensors of the gates' shape.
    """
    grad = grad.to(omega.dtype)
    inner = group_sum(torch.mul(omega, grad, out=out), gates[0])
    gradients = [torch.mul(grad, product(gates), out=out), *leave_one_out(gates, start=inner)]
    if penalty != 0:
        decay = 2 * penalty / len(gradients)
        for gradient, factor in zip(gradients, [omega, *gates], strict=True):
            gradient.add_(factor, alpha=decay)
    return gradients


def group_sum(values: Tensor, gate: Tensor) -> Tensor:
    """Add up the elements of each group.

    Args:
        values: Of omega's shape.
        gate: Of a gate's.

    Returns:
        A new tensor of the gate's shape.
    """
    dims = within(gate, values)
    # torch takes no dimensions for all of them.
    return values.sum(dims, keepdim=True) if dims else values.clone()


def group_norms(weight: Tensor, gate: Tensor) -> Tensor:
    """Return ``||w_j||_2`` of each group.

    Args:
        weight: Of omega's shape.
        gate: Of a gate's shape and weight's device; its values do not matter.

    Returns:
        A new tensor of the gate's shape.
    """
    dims = within(gate, weight)
    return torch.linalg.vector_norm(weight, dim=dims, keepdim=True) if dims else weight.abs()


def group_max(weight: Tensor, gate: Tensor) -> Tensor:
    """Return the largest ``|w|`` of each group; as `group_norms`."""
    dims = within(gate, weight)
    sizes = weight.abs()
    return sizes.amax(dims, keepdim=True) if dims and weight.numel() else sizes.sum_to_size(gate.shape)


def rebalance(omega: Tensor, gates: Sequence[Tensor], weight: Tensor) -> list[Tensor]:
    r"""Rescale factor and gates so that their product is a given weight.

    Each is scaled with the group's norm, gates by :math:`(\|w_j\| / \|w_j^{old}\|)^{1/D}`, and omega
    then solves the product, so that it differs from the weight by two roundings. Groups that were zero,
    or not finite, start anew with gates of 1; groups that become zero have zero gates, from which
    nothing brings them back.

    Args:
        omega: The full factor.
        gates: ``D - 1 >= 1`` tensors of one shape that broadcasts against it.
        weight: Of omega's shape; cast to its dtype.

    Returns:
        The full factor and the gates, new tensors.
    """
    depth = len(gates) + 1
    weight = weight.to(omega.dtype)
    old, new = group_norms(gated(omega, gates), gates[0]), group_norms(weight, gates[0])
    usable = (old > 0) & (new > 0) & old.isfinite() & new.isfinite()
    # Roots before the quotient, which itself can leave the range of floats.
    scale = new.pow(1 / depth) / torch.where(usable, old, 1.0).pow(1 / depth)
    # Not by the norm, whose squares underflow before the weights do.
    dead = group_max(weight, gates[0]) == 0
    scaled = [torch.where(usable, gate * scale, 1.0).masked_fill_(dead, 0) for gate in gates]
    return [(weight / product(scaled)).masked_fill_(dead, 0), *scaled]


def dead_groups(omega: Tensor, gates: Sequence[Tensor]) -> Tensor | None:
    """Find the groups that underflow has killed.

    A group is dead when all gates and all of omega are below ``tiny^(1/D)`` in size, as a weight is in
    `dwf_optim.factors.flush_dead`.

    Args:
        omega: The full factor.
        gates: ``D - 1 >= 1`` tensors of one shape that broadcasts against it.

    Returns:
        A mask of the gates' shape; None where a look at the gates has shown that there is none.
    """
    bound = torch.finfo(omega.dtype).tiny ** (1 / (len(gates) + 1))
    small = torch.stack([gate.abs() for gate in gates]).amax(0) < bound
    if omega.numel() == 0 or (small.device.type == "cpu" and not bool(small.any())):
        return None
    dead: Tensor = small & (group_max(omega, gates[0]) < bound)
    return dead
