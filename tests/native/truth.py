"""One step in float64 from the formulas, and how far float32 arithmetic may end from it.

The bounds follow the kernel's roundings, each of at most ``U = eps / 2`` of its result, and sum the
absolute values of the terms that are added. A flush to zero, also of an operand, is an error of at most
TINY.
Nothing here imports dwf_optim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

U = torch.finfo(torch.float32).eps / 2
TINY = torch.finfo(torch.float32).tiny
LARGE = 1e37  # float32 may overflow beyond


@dataclass
class Setting:
    """A base with its options, as torch names them, and what the factorization adds."""

    base: str
    lr: float
    penalty: float
    flush: bool = True
    maximize: bool = False
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    amsgrad: bool = False


class Bounded(NamedTuple):
    """Numbers, and by how much float32 may miss them."""

    value: Tensor
    error: Tensor


class Outcome(NamedTuple):
    """After a step: by factor, and of the weight; where float32 cannot overflow; who dies for certain,
    and who lives for certain."""

    factors: list[Bounded]
    moments: list[list[Bounded]]  # by factor
    weight: Bounded
    representable: Tensor
    dead: Tensor
    alive: Tensor


def step(
    s: Setting, factors: list[Tensor], grad: Tensor, moments: list[list[Tensor]], count: int
) -> Outcome:
    """Step float64 copies; ``moments`` by factor, ``count`` is the number of this step."""
    depth = len(factors)
    sign = -1.0 if s.maximize else 1.0
    decay = 2 * s.penalty / depth
    at_least_one = torch.stack([f.abs().clamp(min=1) for f in factors]).prod(0)
    # An operand taken for zero, or a product flushed, costs TINY times what it is multiplied with.
    lost = 2 * depth * TINY * at_least_one * grad.abs().clamp(min=1)
    representable = at_least_one * grad.abs().clamp(min=1) < LARGE
    new, after = [], []
    for d in range(depth):
        others = torch.stack([grad, *(f for e, f in enumerate(factors) if e != d)]).prod(0)
        g = sign * others + decay * factors[d]
        terms = others.abs() + abs(decay) * factors[d].abs()
        # depth multiplications; the decay's own rounding, its multiplication and the sum
        slope = Bounded(g, (depth + 3) * U * terms + lost)
        move, state, fits = base_move(s, slope, terms, moments[d], count)
        new.append(subtract(factors[d], move))
        after.append(state)
        representable &= fits & (new[-1].value.abs() < LARGE)
    limit = TINY ** (1 / depth)
    if s.flush:
        dead = torch.stack([f.value.abs() + f.error < limit * (1 - 2 * U) for f in new]).all(0)
        alive = torch.stack([f.value.abs() - f.error > limit * (1 + 2 * U) for f in new]).any(0)
    else:
        dead, alive = torch.zeros_like(representable), torch.ones_like(representable)
    weight = torch.stack([f.value for f in new]).prod(0)
    reach = torch.stack([f.value.abs() + f.error for f in new]).prod(0)
    # The factors' errors, then depth - 1 multiplications, which may underflow on the way.
    large = torch.stack([(f.value.abs() + f.error).clamp(min=1) for f in new]).prod(0)
    error = reach - weight.abs() + depth * U * reach + depth * TINY * U * large
    representable &= large < LARGE
    return Outcome(new, after, Bounded(weight, error), representable, dead, alive)


def subtract(f: Tensor, move: Bounded) -> Bounded:
    """Move a factor: one rounding more."""
    value, error = move
    return Bounded(f - value, error + U * (f.abs() + value.abs() + error) + 3 * TINY)


def base_move(
    s: Setting, slope: Bounded, terms: Tensor, state: list[Tensor], count: int
) -> tuple[Bounded, list[Bounded], Tensor]:
    """Say by how much the base moves a factor, what it then keeps, and where float32 cannot overflow.

    Args:
        s: The base.
        slope: The factor's gradient.
        terms: The sum of its terms' absolute values.
        state: What the base keeps of the factor.
        count: Of this step.
    """
    if s.base != "SGD":
        return _adam(s, slope, terms, state, count)
    g, error = slope
    move, after = g, []
    if s.momentum:
        # Both constants are rounded, both products and the sum: 3 roundings of each term at most.
        kept, fresh = s.momentum * state[0], (1 - s.dampening) * g
        move = kept + fresh
        terms = kept.abs() + abs(1 - s.dampening) * terms
        error = abs(1 - s.dampening) * error + 3 * U * terms + 3 * TINY
        after = [Bounded(move, error)]
        if s.nesterov:
            move = g + s.momentum * move
            terms = terms * s.momentum + slope.value.abs()
            error = slope.error + s.momentum * error + 3 * U * terms + 3 * TINY
    # The rate is rounded, and the product.
    error = s.lr * error + 3 * U * s.lr * (move.abs() + error) + 2 * TINY * max(1, s.lr)
    return Bounded(s.lr * move, error), after, terms < LARGE


def _adam(
    s: Setting, slope: Bounded, terms: Tensor, state: list[Tensor], count: int
) -> tuple[Bounded, list[Bounded], Tensor]:
    g, error = slope
    tiny = TINY if s.flush else TINY * 2 * U
    mean = state[0] + (1 - s.beta1) * (g - state[0])
    mean_error = (1 - s.beta1) * error + 5 * U * (state[0].abs() + terms + error) + 4 * tiny
    square = s.beta2 * state[1] + (1 - s.beta2) * g * g
    spread = (1 - s.beta2) * error * (2 * g.abs() + error)
    square_error = spread + 5 * U * (square + spread) + 4 * tiny
    after = [Bounded(mean, mean_error), Bounded(square, square_error)]
    scale = square
    if s.amsgrad:
        scale = torch.maximum(square, state[2])
        after.append(Bounded(scale, square_error))
    # sqrt is steep near zero, so its error is that of the interval's ends.
    low, high = (scale - square_error).clamp(min=0).sqrt(), (scale + square_error).sqrt()
    rate = s.lr / (1 - s.beta1**count)
    root = (1 - s.beta2**count) ** 0.5
    # Rounded: the square root, its correction, the product, eps and the sum; and a margin for the ends.
    below, above = (low / root + s.eps) * (1 - 8 * U), (high / root + s.eps) * (1 + 8 * U)
    denominator = scale.sqrt() / root + s.eps
    move = rate * mean / denominator
    reach = rate * (mean.abs() + mean_error)
    # Rounded: the rate, its product with the mean, and the quotient.
    move_error = torch.maximum(
        (reach / below - move.abs()).abs(),
        (move - rate * mean / above).abs() + rate * mean_error / below,
    )
    move_error = move_error + 4 * U * reach / below + 3 * TINY * (1 + 1 / below)
    fits = (terms.square() < LARGE) & (square < LARGE) & (reach / below < LARGE)
    return Bounded(move, move_error), after, fits
