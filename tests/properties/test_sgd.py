"""Plain SGD on factors, step by step."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, decay_budget
from dwf_optim.testing import assert_zero_is_absorbing, depths, gamma, penalties, weights
from tests.helpers import seeded, step_with

SEEDS = st.integers(0, 2**32 - 1)
RATES = st.floats(1e-4, 0.3)
BACKENDS = st.sampled_from(["reference", "blocked", "auto"])


def build(weight: Parameter, lr: float, penalty: float, depth: int, backend: str) -> DWFOptimizer:
    options = {"lr_scale": 1.0, "min_ndim": 0, "flush": None}
    return DWFOptimizer([weight], lr, penalty=penalty, depth=depth, backend=backend, **options)


def others(factors: list[Tensor], d: int) -> Tensor:
    return torch.stack([f for e, f in enumerate(factors) if e != d]).prod(0)


@given(seed=SEEDS, lr=RATES, penalty=penalties(0.0, 1.0), depth=depths(), backend=BACKENDS)
def test_balance_identity_of_a_step(
    seed: int, lr: float, penalty: float, depth: int, backend: str
) -> None:
    """f_i'^2 - f_j'^2 = (f_i^2 - f_j^2) ((1 - 2 lambda eta/D)^2 - eta^2 g^2 prod_{e != i,j} f_e^2).

    The terms of first order in the gradient are 2 eta g w for every factor and cancel; the exponential
    of the gradient flow is what is left at small rates.
    """
    generator = seeded(seed)
    weight = Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    grad = torch.randn(5, generator=generator, dtype=torch.float64)
    optimizer = build(weight, lr, penalty, depth, backend)
    before = [f.clone() for f in optimizer.factors(weight)]
    step_with(optimizer, {weight: grad})
    after = optimizer.factors(weight)
    keep = 1 - 2 * penalty * lr / depth
    for i, j in itertools.combinations(range(depth), 2):
        rest = torch.stack([torch.ones(5, dtype=torch.float64), *before]).prod(0)
        rest = rest / (before[i] * before[j])
        difference = before[i].square() - before[j].square()
        expected = difference * (keep**2 - (lr * grad * rest).square())
        # A factor is off by the roundings of its gradient's D + 5 operations and of the move, of the
        # sizes of the terms; its square by twice its size times that.
        allowed = torch.zeros_like(expected)
        for d in (i, j):
            terms = before[d].abs() + lr * (grad * others(before, d)).abs()
            terms = terms + 2 * penalty * lr / depth * before[d].abs()
            allowed = allowed + 4 * gamma(2 * depth + 12, torch.float64) * terms.square()
        assert bool(((after[i].square() - after[j].square() - expected).abs() <= allowed).all())


@given(
    seed=SEEDS,
    lr=RATES,
    penalty=penalties(1e-3, 1.0),
    depth=depths(),
    steps=st.integers(1, 60),
    share=st.floats(0.5, 0.9) | st.floats(1.1, 2.0),  # not so close to 1 that rounding decides
)
def test_a_weight_without_gradient_decays_as_the_budget_says(
    seed: int, lr: float, penalty: float, depth: int, steps: int, share: float
) -> None:
    """w_T = w_0 (1 - x)^(D T) with x = 2 lambda eta/D: about w_0 exp(-2 lambda eta T), whatever D.

    As -x - x^2 <= ln(1 - x) <= -x for x <= 1/2, it is at most that, and at least exp(-D T x^2) times
    that. So a weight that has to fall by the factor exp(2 R) does so once lambda * sum(eta) reaches R,
    and `decay_budget` asks for that R.
    """
    weight = Parameter(torch.randn(4, generator=seeded(seed), dtype=torch.float64))
    start = weight.detach().clone()
    optimizer = build(weight, lr, penalty, depth, "auto")
    for _ in range(steps):
        step_with(optimizer, {weight: torch.zeros_like(weight)})
    x = 2 * penalty * lr / depth
    rounding = gamma(steps * depth * 8 + 8 * depth, torch.float64)
    ratio = weight.detach() / start
    assert bool(((ratio / (1 - x) ** (depth * steps) - 1).abs() <= rounding).all())
    travelled = penalty * lr * steps
    assert bool((ratio <= math.exp(-2 * travelled) * (1 + rounding)).all())
    assert bool((ratio >= math.exp(-2 * travelled - depth * steps * x**2) * (1 - rounding)).all())

    threshold = 0.05 * math.exp(-2 * share * travelled)
    budget = decay_budget(lr, penalty=penalty, steps=steps, start=0.05, threshold=threshold)
    assert budget.reachable == (share < 1)
    arrived = 0.05 * (1 - x) ** (depth * steps) <= threshold
    if share < 1 or share > 1 + x:
        assert arrived == budget.reachable


@given(data=st.data(), depth=depths(), backend=BACKENDS, seed=SEEDS)
def test_zeros_stay_zero(data: st.DataObject, depth: int, backend: str, seed: int) -> None:
    """All factors 0: the gradient by each is g * 0 + (2 lambda/D) * 0."""
    drawn = data.draw(weights((2, 3), extremes=False, zeros=False))
    weight = Parameter(drawn)
    with torch.no_grad():
        weight[0, seed % 3] = 0
    optimizer = DWFOptimizer([weight], 0.01, momentum=0.9, penalty=0.01, depth=depth, backend=backend)
    generator = seeded(seed)

    def step() -> None:
        step_with(optimizer, {weight: torch.randn(2, 3, generator=generator)})

    assert_zero_is_absorbing(step, [weight])
