"""The product's mathematics against naive loops, and by hand; its laws are in tests/properties."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dwf_optim.factors import (
    factor_gradients,
    flush_dead,
    leave_one_out,
    match,
    misalignment,
    product,
    quasi_norm,
)
from tests.helpers import seeded, ulp
from tests.reference import autograd

EPS = 2.0**-53  # half the spacing of float64 at 1: the largest relative error of one operation
SHAPES = st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4)])
SEEDS = st.integers(0, 2**32 - 1)
DEPTHS = st.integers(1, 8)
PENALTIES = st.floats(0, 10)


def draw_factors(seed: int, depth: int, shape: tuple[int, ...], zeros: float = 0.0) -> list[Tensor]:
    """Factors of mixed sign over several orders of magnitude, a share of them exactly zero."""
    generator = seeded(seed)

    def one() -> Tensor:
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        size = torch.randn(shape, generator=generator, dtype=torch.float64).mul_(2).exp_()
        keep = torch.rand(shape, generator=generator, dtype=torch.float64) >= zeros
        return normal * size * keep

    return [one() for _ in range(depth)]


@given(SEEDS, DEPTHS, SHAPES)
def test_product_multiplies_from_first_to_last(seed: int, depth: int, shape: tuple[int]) -> None:
    factors = draw_factors(seed, depth, shape)
    before = [f.clone() for f in factors]
    assert torch.equal(product(factors), functools.reduce(torch.mul, factors))
    assert all(torch.equal(f, b) for f, b in zip(factors, before, strict=True))


def test_product_order_is_the_state_format() -> None:
    # In any other order the first two would overflow, or be rounded elsewhere.
    factors = [torch.tensor([v], dtype=torch.float32) for v in (1e30, 1e-30, 1e30)]
    assert product(factors).isfinite()
    assert product([factors[0], factors[2], factors[1]]).isinf()


def test_product_of_one_factor_is_a_copy() -> None:
    factor = torch.ones(3)
    product([factor]).zero_()
    assert torch.equal(factor, torch.ones(3))


@given(SEEDS, DEPTHS, SHAPES, st.sampled_from([0.0, 0.3, 0.8]))
def test_leave_one_out(seed: int, depth: int, shape: tuple[int], zeros: float) -> None:
    factors = draw_factors(seed, depth, shape, zeros)
    for ours, naive in zip(leave_one_out(factors), autograd.leave_one_out(factors), strict=True):
        # Each is the same D - 1 numbers multiplied in some order: D - 1 roundings on either side.
        assert bool(((ours - naive).abs() <= 2 * depth * EPS * naive.abs()).all())
        assert torch.equal(ours == 0, naive == 0)


@pytest.mark.parametrize("depth", range(2, 9))
def test_leave_one_out_is_exact_at_zeros(depth: int) -> None:
    # Powers of two: every product is exact, so equality is.
    factors = [torch.full((3,), 2.0 ** (d - 3)) for d in range(depth)]
    total = 2.0 ** sum(d - 3 for d in range(depth))
    factors[1][1] = 0  # one zero
    factors[0][2] = factors[-1][2] = 0  # two
    others = leave_one_out(factors)
    for d, (factor, other) in enumerate(zip(factors, others, strict=True)):
        assert other[0] == total / factor[0]
        assert other[1] == (total / 2.0 ** (1 - 3) if d == 1 else 0)
        lone = depth == 2 and 0.0
        assert other[2] == lone


@given(SEEDS, DEPTHS, SHAPES)
def test_leave_one_out_writes_where_it_is_told(seed: int, depth: int, shape: tuple[int]) -> None:
    factors = draw_factors(seed, depth, shape)
    start = draw_factors(seed + 1, 1, shape)[0]
    out = [torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(depth)]
    written = leave_one_out(factors, start=start, out=out)
    assert all(a is b for a, b in zip(written, out, strict=True))
    for ours, naive in zip(out, autograd.leave_one_out(factors), strict=True):
        expected = start * naive
        assert bool(((ours - expected).abs() <= 2 * (depth + 1) * EPS * expected.abs()).all())


def test_gradient_is_in_the_factors_precision() -> None:
    factors = [torch.full((2,), 1.0 + 2**-20) for _ in range(3)]
    upstream = torch.ones(2, dtype=torch.bfloat16)
    for gradient in factor_gradients(factors, upstream, 0.0):
        assert gradient.dtype == torch.float32
        # (1 + 2^-20)^2 needs more than bfloat16's 8 bits and, without 2^-40, fits float32.
        assert torch.equal(gradient, torch.full((2,), 1.0 + 2**-19))


def test_misalignment_by_hand() -> None:
    factors = [torch.tensor([2.0, 0.0]), torch.tensor([0.5, 3.0])]
    assert float(misalignment(factors)) == (4 + 0.25 + 0 + 9) / 2 - 1


@given(SEEDS, DEPTHS, SHAPES)
def test_quasi_norm(seed: int, depth: int, shape: tuple[int]) -> None:
    weight = draw_factors(seed, 1, shape)[0]
    # n sums, and a few ulp in each power.
    bound = (weight.numel() + 8) * 2 * EPS
    assert float(quasi_norm(weight, depth)) == pytest.approx(
        autograd.quasi_norm(weight, depth), rel=bound, abs=0
    )


@given(SEEDS, st.integers(1, 8), SHAPES)
def test_match_keeps_ratios_and_signs(seed: int, depth: int, shape: tuple[int]) -> None:
    candidates = draw_factors(seed, depth, shape)
    weight = draw_factors(seed + 1, 1, shape, zeros=0.2)[0]
    factors = match(candidates, weight)
    found = functools.reduce(torch.mul, factors)
    assert bool(((found - weight).abs() <= 2 * ulp(weight))[weight != 0].all())
    if depth == 1:
        return
    for factor in factors:
        assert torch.equal(factor == 0, weight == 0)
    kept = weight != 0
    scale = factors[0] / candidates[0]
    for factor, candidate in zip(factors[1:], candidates[1:], strict=True):
        # The scale is one number, from 2 roots and D products; the last factor's may carry a sign.
        ratio = (factor / candidate / scale)[kept]
        last = factor is factors[-1]
        assert bool(((ratio.abs() if last else ratio) - 1).abs().le(16 * depth * EPS).all())


def test_match_of_dead_candidates_starts_balanced() -> None:
    weight = torch.tensor([8.0, -8.0, 0.0])
    factors = match([torch.zeros(3), torch.ones(3), torch.ones(3)], weight)
    for factor in factors[:2]:
        torch.testing.assert_close(factor, torch.tensor([2.0, 2.0, 0.0]))
    torch.testing.assert_close(factors[2], torch.tensor([2.0, -2.0, 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", range(2, 9))
def test_flush_takes_the_dead_only(depth: int, dtype: torch.dtype) -> None:
    bound = torch.finfo(dtype).tiny ** (1 / depth)
    nan = float("nan")
    one = torch.tensor([bound / 2, bound * 2, bound / 2, nan, nan, 0.0], dtype=dtype)
    rest = torch.tensor([-bound / 2, bound / 2, bound / 2, bound / 2, 1.0, 1.0], dtype=dtype)
    factors = [rest.clone() for _ in range(depth - 1)] + [one.clone()]
    moment, counter = torch.ones(6, dtype=dtype), torch.tensor(5.0)
    flush_dead(factors, [moment, counter, 3])
    dead = torch.tensor([True, False, True, False, False, False])
    for factor, before in zip(factors, [*[rest] * (depth - 1), one], strict=True):
        expected = before.masked_fill(dead, 0)
        assert torch.equal(factor.isnan(), expected.isnan())
        assert torch.equal(factor.nan_to_num(), expected.nan_to_num())
    assert torch.equal(moment, 1 - dead.to(dtype))
    assert counter == 5
