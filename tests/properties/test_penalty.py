"""L2 on factors against the quasi-norm of their product: arithmetic and geometric means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dwf_optim.factors import factor_penalty, misalignment, product, quasi_norm
from dwf_optim.testing import (
    Objective,
    assert_penalty_equivalent,
    depths,
    factors,
    gamma,
    objectives,
    penalties,
)
from tests.helpers import seeded

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data(), penalty=penalties())
def test_factor_penalty_is_the_quasi_norm_at_its_cheapest(
    dtype: torch.dtype, data: st.DataObject, penalty: float
) -> None:
    """(1/D) sum_d f_d^2 >= |f_1 ... f_D|^(2/D), equal for balanced factors."""
    drawn = data.draw(factors(dtype=dtype))
    assert_penalty_equivalent(
        lambda fs: penalty * factor_penalty(fs),
        drawn,
        product=product,
        weight_penalty=lambda weight: penalty * quasi_norm(weight, len(drawn)),
    )


def rounding(drawn: list[Tensor]) -> float:
    """Of misalignment, in float64.

    n D squares are summed (n D + 1 roundings), and n powers (D roundings in each product, 2 ulp in pow,
    and the exponent's own: |ln w|); no term of the quasi-norm exceeds its share of the penalty.
    """
    n, depth = drawn[0].numel(), len(drawn)
    roots = torch.stack(drawn).abs()
    logarithm = float(roots[roots > 0].log().abs().max()) * depth if bool(roots.any()) else 0.0
    share = gamma(n * depth + n + depth + 8 + logarithm, torch.float64)
    return 2 * share * float(factor_penalty(drawn))


@given(factors(dtype=torch.float64, balanced=False))
def test_misalignment_is_never_negative_and_grows_with_the_distance(drawn: list[Tensor]) -> None:
    """M >= sum over weights of (max_d |f_d| - min_d |f_d|)^2 / D: zero for balanced factors only.

    That arithmetic and geometric mean of D numbers are at least (sqrt(max) - sqrt(min))^2 / D apart is
    classical; here the numbers are f_d^2.
    """
    sizes = torch.stack(drawn).abs()
    apart = (sizes.amax(0) - sizes.amin(0)).square().sum() / len(drawn)
    assert float(misalignment(drawn)) >= float(apart) - rounding(drawn)


@given(factors(dtype=torch.float64, balanced=True))
def test_misalignment_of_balanced_factors_is_zero(drawn: list[Tensor]) -> None:
    """M = 0 where |f_1| = ... = |f_D|."""
    assert abs(float(misalignment(drawn))) <= rounding(drawn)


@given(objectives(), depths(), SEEDS, penalties())
def test_objectives_differ_by_lambda_times_misalignment(
    objective: Objective, depth: int, seed: int, penalty: float
) -> None:
    """L(prod f) + lambda/D sum ||f_d||^2 - (L(w) + lambda ||w||_q^q) = lambda M."""
    drawn = list(torch.randn(depth, objective.size, generator=seeded(seed), dtype=torch.float64))
    loss = float(objective(product(drawn)))
    factorized = loss + penalty * float(factor_penalty(drawn))
    collapsed = loss + penalty * float(quasi_norm(product(drawn), depth))
    difference = penalty * float(misalignment(drawn))
    # Each objective is rounded when it is summed, beyond what misalignment itself is.
    allowed = 4 * gamma(2, torch.float64) * factorized + penalty * rounding(drawn)
    assert abs(factorized - collapsed - difference) <= allowed


@given(
    depth=depths(),
    logarithm=st.floats(-6, 6),
    negative=st.booleans(),
    start=st.lists(st.floats(-2, 2), min_size=7, max_size=7),
)
def test_minimum_over_factors_of_one_product_is_the_quasi_norm(
    depth: int, logarithm: float, negative: bool, start: list[float]
) -> None:
    """min { (1/D) sum_d f_d^2 : f_1 ... f_D = w } = |w|^(2/D), found from any start and never undercut.

    In x_d = ln |f_d|, d < D, the problem is convex, with second derivatives of at least
    mu = (4/D) min f_d^2; so a point with gradient G is at most |G|^2 / (2 mu) above the minimum, mu
    taken at the smaller of its factors and the minimum's.
    """
    weight = math.copysign(math.exp(logarithm), -1.0 if negative else 1.0)

    def split(x: np.ndarray) -> list[Tensor]:
        free = [torch.tensor(math.exp(value), dtype=torch.float64) for value in x]
        return [*free, torch.tensor(weight, dtype=torch.float64) / product(free)]

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        *free, last = (float(f) ** 2 for f in split(x))
        return float(factor_penalty(split(x))), 2 / depth * (np.array(free) - last)

    begin = np.array(start[: depth - 1]) + logarithm / depth
    found = scipy.optimize.minimize(value, begin, jac=True, method="BFGS", options={"gtol": 1e-9})
    least = float(quasi_norm(torch.tensor(weight, dtype=torch.float64), depth))
    slack = gamma(4 * depth + 16 + abs(logarithm), torch.float64) * found.fun
    assert found.fun >= least - slack
    smallest = min(least, *(float(f) ** 2 for f in split(found.x)))
    above = float(np.linalg.norm(value(found.x)[1])) ** 2 / (2 * 4 / depth * smallest)
    assert found.fun <= least + above + slack
    assert above <= 1e-6 * least  # it was found
