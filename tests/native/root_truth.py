"""As `tests.native.truth`, for weights that have one root instead of factors.

With ``s`` the sign that a weight has apart from its root (1 at odd depth), the root's gradient is
``s g root^{D-1} + (2 penalty / D) root``. Nothing here imports dwf_optim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.native.truth import LARGE, TINY, Bounded, Outcome, Setting, U, base_move, subtract

# 1 / root of a weight, as csrc/roots.h has it.
INVERSE = 4


def tied(
    s: Setting, root: Tensor, weight: Tensor, grad: Tensor, moments: list[Tensor], depth: int, count: int
) -> Outcome:
    """Step a float64 copy of a root; of the weight only the sign counts."""
    apart = torch.ones_like(weight) if depth % 2 else torch.copysign(torch.ones_like(weight), weight)
    reach = root.abs().clamp(min=1) ** (depth - 1) * grad.abs().clamp(min=1)
    # depth - 1 multiplications; the decay's own rounding, its multiplication and the sum.
    slope, terms = _slope(s, apart * grad * root ** (depth - 1), root, depth)
    slope = Bounded(slope, (depth + 3) * U * terms + 2 * depth * TINY * reach)
    move, state, fits = base_move(s, slope, terms, moments, count)
    after = subtract(root, move)
    size = after.value.abs()
    limit = TINY ** (1 / depth)
    dead, alive = torch.zeros_like(fits), torch.ones_like(fits)
    if s.flush:
        dead = size + after.error < limit * (1 - 2 * U)
        alive = size - after.error > limit * (1 + 2 * U)
    # The root's error, then depth - 1 multiplications, which may underflow on the way.
    large = (size + after.error) ** depth
    error = large - size**depth + depth * U * large + depth * TINY * large.clamp(min=1)
    fits &= (reach < LARGE) & (large < LARGE)
    new = Bounded(apart * after.value**depth, error)
    return Outcome([after], [state], new, fits, dead, alive)


def ephemeral(
    s: Setting, weight: Tensor, grad: Tensor, moments: list[Tensor], depth: int, count: int
) -> Outcome:
    """Step a float64 copy of a weight. Denormals are flushed."""
    zero = weight.abs() < TINY
    size = torch.where(zero, 1.0, weight.abs())
    root = torch.where(weight < 0, -1.0, 1.0) ** depth * size ** (1 / depth)
    others = torch.where(weight < 0, -1.0, 1.0) ** (depth + 1) * size ** (1 - 1 / depth)
    moments = [m.masked_fill(zero, 0) for m in moments]
    pull = grad * others
    slope, terms = _slope(s, pull, root, depth)
    # `others` has the error of 1 / root and a rounding, and one more by the gradient. On top of that the
    # root has depth - 2 factors 1 / root, a multiplication each; then the decay's own rounding and its
    # multiplication.
    rounded = (INVERSE + 2) * pull.abs() + ((depth - 1) * (INVERSE + 1) + 2) * (terms - pull.abs())
    slope = Bounded(slope, U * (rounded + 2 * terms) + 4 * TINY * others.abs().clamp(min=1))
    move, state, fits = base_move(s, slope, terms, moments, count)
    # The weight moves by the ratio of the roots, 1 - move / root.
    share = Bounded((move.value / root).abs(), move.error / root.abs())
    ratio = 1 - move.value / root
    reach = share.value + share.error
    ratio_error = share.error + (INVERSE + 2) * U * reach + U * (1 + reach) + TINY
    largest = size * (ratio.abs() + ratio_error) ** depth
    error = largest - size * ratio.abs() ** depth + depth * U * largest + 2 * TINY
    new = Bounded(weight * ratio**depth, error)
    fits &= (pull.abs() < LARGE) & (reach < LARGE) & (largest < LARGE)
    if depth % 2 == 0 and state:
        state[0] = Bounded(state[0].value * torch.sign(ratio), state[0].error)
    dead = zero | (new.value.abs() + error < TINY)
    # Which side of zero the root ends on has to be certain, too.
    alive = ~zero & (new.value.abs() - error > TINY) & (ratio.abs() > ratio_error)
    fits |= zero & (grad.abs() < LARGE)
    return Outcome([], [state], new, fits, dead, alive)


def _slope(s: Setting, pull: Tensor, root: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Return the root's gradient, and the sum of its terms' absolute values."""
    decay = 2 * s.penalty / depth
    return (-1.0 if s.maximize else 1.0) * pull + decay * root, pull.abs() + decay * root.abs()
