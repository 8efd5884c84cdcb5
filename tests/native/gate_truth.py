"""As `tests.native.truth`, for weights that share gates: a full factor times numbers of its group.

With ``P`` the product of a group's gates, the full factor's gradient is ``g P + c omega`` and a gate's
``<omega, g> P / gate + c gate``, ``c = 2 penalty / D``, times the root of the group's size where that
counts. Gates are vectors here, and ``group`` says to which of their numbers each element belongs.
Nothing here imports dwf_optim.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tests.native.truth import LARGE, TINY, Bounded, Setting, U, base_move, subtract

# Numbers that are added in float32 before the sum goes on in double (csrc/gate_kernel.cpp), and the
# rounding of the whole sum to float32 with that of each product.
ADDED = 64 + 2


class Outcome(NamedTuple):
    """After a step: the full factor and the gates; where float32 cannot overflow in each, and in the
    weight; which groups die for certain, and which live for certain."""

    factors: list[Bounded]
    moments: list[list[Bounded]]  # by factor
    weight: Bounded
    representable: list[Tensor]  # by factor
    weight_representable: Tensor
    dead: Tensor
    alive: Tensor


def step(
    s: Setting,
    omega: Tensor,
    gates: list[Tensor],
    grad: Tensor,
    group: Tensor,
    moments: list[list[Tensor]],
    count: int,
    weigh: bool,
) -> Outcome:
    """Step float64 copies; ``moments`` by factor, ``count`` is the number of this step."""
    depth, groups = len(gates) + 1, gates[0].numel()
    sign = -1.0 if s.maximize else 1.0
    decay = 2 * s.penalty / depth
    if weigh:
        decay *= (omega.numel() / groups) ** 0.5
    # Taking the root, and multiplying by it.
    weighed = 2 * weigh

    def add_up(values: Tensor) -> Tensor:
        return torch.zeros(groups, dtype=values.dtype).index_add_(0, group.flatten(), values.flatten())

    both = torch.stack(gates)
    at_least_one = both.abs().clamp(min=1).prod(0)
    products = both.prod(0)[group]
    sizes = omega.abs().clamp(min=1) * grad.abs().clamp(min=1)
    outcomes = []

    # An operand taken for zero, or a product flushed, costs TINY times what it is multiplied with.
    terms = (grad * products).abs() + abs(decay) * omega.abs()
    lost = 2 * depth * TINY * at_least_one[group] * sizes
    # depth - 1 multiplications, of the gates and by the gradient, and the sum; the decay's own rounding.
    slope = Bounded(sign * grad * products + decay * omega, (depth + 3 + weighed) * U * terms + lost)
    fits = (at_least_one[group] * sizes < LARGE) & (terms < LARGE)
    outcomes.append(_move(s, omega, slope, terms, moments[0], count, fits))

    inner, reach = add_up(omega * grad), add_up((omega * grad).abs())
    # Of each element an operand or a product, and of each addition the result.
    lost_inner = 4 * TINY * add_up(sizes)
    for d, gate in enumerate(gates):
        others = both[[e for e in range(depth - 1) if e != d]].prod(0)
        terms = reach * others.abs() + abs(decay) * gate.abs()
        lost = at_least_one * (lost_inner + 2 * depth * TINY * reach.clamp(min=1))
        rounded = (ADDED + depth + 3 + weighed) * U * terms
        slope = Bounded(sign * inner * others + decay * gate, rounded + lost)
        fits = (at_least_one * reach.clamp(min=1) < LARGE) & (terms < LARGE)
        outcomes.append(_move(s, gate, slope, terms, moments[d + 1], count, fits))

    new = [factor for factor, _, _ in outcomes]
    representable = [fits for _, _, fits in outcomes]
    dead, alive = _deaths(s, new, representable, group)
    spread = [new[0], *(Bounded(f.value[group], f.error[group]) for f in new[1:])]
    fits = representable[0] & torch.stack(representable[1:]).all(0)[group]
    weight, large = _product(spread)
    states = [after for _, after, _ in outcomes]
    return Outcome(new, states, weight, representable, fits & (large < LARGE), dead, alive)


def _move(
    s: Setting,
    factor: Tensor,
    slope: Bounded,
    terms: Tensor,
    state: list[Tensor],
    count: int,
    fits: Tensor,
) -> tuple[Bounded, list[Bounded], Tensor]:
    move, after, base_fits = base_move(s, slope, terms, state, count)
    new = subtract(factor, move)
    return new, after, fits & base_fits & (new.value.abs() < LARGE)


def _deaths(
    s: Setting, new: list[Bounded], representable: list[Tensor], group: Tensor
) -> tuple[Tensor, Tensor]:
    """Say which groups die, and which live; neither is known within roundings of the bound."""
    groups = new[1].value.numel()
    if not s.flush:
        return torch.zeros(groups, dtype=torch.bool), torch.ones(groups, dtype=torch.bool)
    limit = TINY ** (1 / len(new))
    small = [f.value.abs() + f.error < limit * (1 - 2 * U) for f in new]
    large = [f.value.abs() - f.error > limit * (1 + 2 * U) for f in new]
    small = [a & fits for a, fits in zip(small, representable, strict=True)]
    large = [a & fits for a, fits in zip(large, representable, strict=True)]

    def any_of(mask: Tensor) -> Tensor:
        return torch.bincount(group.flatten(), mask.flatten().double(), minlength=groups) > 0

    dead = ~any_of(~small[0]) & torch.stack(small[1:]).all(0)
    alive = any_of(large[0]) | torch.stack(large[1:]).any(0)
    return dead, alive


def _product(factors: list[Bounded]) -> tuple[Bounded, Tensor]:
    """Multiply: the factors' errors, then depth - 1 multiplications, which may underflow on the way."""
    depth = len(factors)
    value = torch.stack([f.value for f in factors]).prod(0)
    reach = torch.stack([f.value.abs() + f.error for f in factors]).prod(0)
    large = torch.stack([(f.value.abs() + f.error).clamp(min=1) for f in factors]).prod(0)
    error = reach - value.abs() + depth * U * reach + depth * TINY * U * large
    return Bounded(value, error), large
