"""Local minima over factors are those over weights, and back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from dwf_optim.testing import Objective, assert_same_minimum, depths, objectives, penalties
from tests.helpers import seeded
from tests.properties.conditions import collapse, factor_residuals, gap
from tests.properties.minimize import over_factors
from tests.reference.autograd import multiply

SEEDS = st.integers(0, 2**32 - 1)
STRONG = penalties(0.01, 1.0)
TARGETS = st.floats(-4, 4)


def turning_point(penalty: float, depth: int) -> float:
    """w0 = (lambda q (1-q))^(1/(2-q)), where w + lambda q w^(q-1) is least; 0 at depth 2."""
    q = 2 / depth
    return (penalty * q * (1 - q)) ** (1 / (2 - q))


def threshold(penalty: float, depth: int) -> float:
    """The |a| from which on (w - a)^2 / 2 + lambda |w|^q has a minimum beside zero."""
    q, w = 2 / depth, turning_point(penalty, depth)
    return penalty if depth == 2 else w + penalty * q * w ** (q - 1)


def nonzero_minimum(target: float, penalty: float, depth: int) -> float | None:
    """Of (w - a)^2 / 2 + lambda |w|^q beside zero, by bisection; None if there is none.

    The slope w - |a| + lambda q w^(q-1) falls up to the turning point and rises from there, so its last
    root lies between that and |a|.
    """
    q, size = 2 / depth, abs(target)

    def slope(w: float) -> float:
        return w - size + penalty * q * w ** (q - 1)

    if size <= threshold(penalty, depth):
        return None
    low, high = turning_point(penalty, depth), size
    if depth == 2:
        return math.copysign(size - penalty, target)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.copysign(high, target)


def pulled_to(target: float) -> Objective:
    def objective(weight: Tensor) -> Tensor:
        return (weight - target).square().sum() / 2

    return objective


def half_threshold(target: float, penalty: float) -> float:
    """Of (w - a)^2 + 2 lambda |w|^(1/2): Xu, Chang, Xu, Zhang, "L1/2 regularization", 2012."""
    phi = math.acos(2 * penalty / 8 * (abs(target) / 3) ** -1.5)
    return 2 / 3 * target * (1 + math.cos(2 * math.pi / 3 - 2 * phi / 3))


@given(target=TARGETS, penalty=STRONG)
def test_the_reference_is_half_thresholding_at_depth_four(target: float, penalty: float) -> None:
    """w = (2/3) a (1 + cos(2 pi/3 - 2 phi/3)), phi = arccos((lambda/4) (|a|/3)^(-3/2))."""
    assume(abs(target) > 1.01 * threshold(penalty, 4))
    expected = nonzero_minimum(target, penalty, 4)
    assert expected is not None
    # Either is some 16 roundings of a cubic's root, or of an arc, whose condition is the inverse square
    # root of the distance to where two roots meet: 1 / sqrt(0.01) at most.
    assert half_threshold(target, penalty) == pytest.approx(expected, rel=10 * 16 * 2**-52)


@given(target=TARGETS, penalty=STRONG, depth=depths(2, 4), seed=SEEDS)
def test_one_weight_ends_in_a_minimum_of_the_reference(
    target: float, penalty: float, depth: int, seed: int
) -> None:
    """argmin of (prod f - a)^2 / 2 + (lambda/D) sum f_d^2 is soft, 2/3- or half-thresholding of a, or 0.

    How far the end may be from the minimum follows from the gradient that is left: |w - w*| <= left / mu
    with mu the curvature between them, which is at least half of that at w* this close to it.
    """
    # At the threshold itself the curvature is zero, and no minimization comes to an end.
    assume(abs(abs(target) - threshold(penalty, depth)) > 1e-3)
    objective = pulled_to(target)
    start = torch.randn(depth, 1, generator=seeded(seed), dtype=torch.float64)
    ends = over_factors(objective, start, penalty)
    weight, left = collapse(objective, ends, penalty)
    expected = nonzero_minimum(target, penalty, depth)
    found = float(weight)
    if found == 0:
        # At depth 2 zero is a minimum only up to the threshold; above, at every target.
        assert depth > 2 or abs(target) <= penalty
        return
    assert expected is not None
    q = 2 / depth
    curvature = 1 - penalty * q * (1 - q) * abs(expected) ** (q - 2)
    rounding = 8 * 2**-52 * abs(target)  # of the slope's terms, which cancel
    assert abs(found - expected) <= 2 * (left + rounding) / curvature


@given(target=TARGETS, penalty=STRONG, depth=depths(2, 4))
def test_a_minimum_over_weights_is_one_over_factors(target: float, penalty: float, depth: int) -> None:
    """And zero too, at depths above 2."""
    objective, minima = pulled_to(target), [0.0] if depth > 2 else []
    beside = nonzero_minimum(target, penalty, depth)
    minima += [] if beside is None else [beside]
    for minimum in minima:
        weight = torch.tensor([minimum], dtype=torch.float64)
        # Bisection ends within an ulp of the root, and the slope is at most 1 + |its terms| steep in it.
        tolerance = 16 * 2**-52 * (abs(target) + 1)
        assert_same_minimum(objective, weight, penalty=penalty, depth=depth, tolerance=tolerance)


@given(target=st.floats(2, 4), penalty=penalties(0.05, 0.5), depth=depths(3, 4))
def test_the_barrier_between_two_minima_is_none(target: float, penalty: float, depth: int) -> None:
    """The other stationary weight, between 0 and the minimum, is a maximum, and is refused."""
    q = 2 / depth
    low, high = 0.0, turning_point(penalty, depth)
    for _ in range(200):
        middle = (low + high) / 2
        falling = middle - target + penalty * q * middle ** (q - 1) < 0 if middle else False
        low, high = (low, middle) if falling else (middle, high)
    weight = torch.tensor([high], dtype=torch.float64)
    with pytest.raises(AssertionError, match="no local minimum of the sparse problem"):
        assert_same_minimum(pulled_to(target), weight, penalty=penalty, depth=depth, tolerance=1e-6)


@given(objective=objectives(largest_features=3), depth=depths(2, 4), penalty=STRONG, seed=SEEDS)
def test_minima_over_factors_are_minima_over_weights(
    objective: Objective, depth: int, penalty: float, seed: int
) -> None:
    """Also of several weights: all conditions of first and second order, and balanced factors."""
    start = torch.randn(depth, objective.size, generator=seeded(seed), dtype=torch.float64)
    ends = over_factors(objective, start, penalty)
    weight, left = collapse(objective, ends, penalty, rows=len(objective.data()[0]))
    assume(left <= 1e-5)  # a trust region may stop where a curvature is nearly zero
    assert_same_minimum(objective, weight, penalty=penalty, depth=depth, tolerance=left)
    # |f_d^2 - f_e^2| <= (D / lambda) max |f rho|: balanced as far as the minimization went.
    residuals = factor_residuals(objective, ends, penalty)
    pull = max(float((f * rho).abs().max()) for f, rho in zip(ends, residuals, strict=True))
    squares = torch.stack(ends).square()
    apart = float((squares.amax(0) - squares.amin(0)).max())
    assert apart <= depth / penalty * pull + 8 * 2**-52 * float(squares.max())


@given(
    objective=objectives(("quadratic", "logistic", "huber")),
    depth=depths(3, 6),
    penalty=STRONG,
    seed=SEEDS,
)
def test_gap(objective: Objective, depth: int, penalty: float, seed: int) -> None:
    """|w| >= (lambda q / G)^(1/(1-q)) if stationary, (lambda q (1-q) / h)^(1/(2-q)) if a minimum."""
    start = torch.randn(depth, objective.size, generator=seeded(seed), dtype=torch.float64)
    ends = over_factors(objective, start, penalty)
    weight, left = collapse(objective, ends, penalty, rows=len(objective.data()[0]))
    assume(left <= 1e-5)
    raw = multiply(ends).abs()
    gradient, q = objective.gradient(multiply(ends)), 2 / depth
    flat = penalty * q * (1 - q) / objective.curvature()
    for size, g in zip(raw[weight != 0].tolist(), gradient[weight != 0].abs().tolist(), strict=True):
        # Each nonzero weight with its own gradient; what is left of it counts as the objective's.
        assert size >= (penalty * q / (g + left)) ** (1 / (1 - q)) * (1 - 1e-12)
        # The smaller of the curvatures along the weight; both laws to what is left, relative to lambda.
        assert size >= flat ** (1 / (2 - q)) * (1 - 1e-6)
    # Between zero and the gap there is nothing: what is below it is zero but for the minimization's end.
    below = raw[weight == 0]
    if below.numel():
        assert float(below.max()) <= 1e-3 * gap(gradient, penalty, depth)
