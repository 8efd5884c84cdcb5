"""Where factors start: the weights they keep, the distributions they draw, and from whose dice."""

from __future__ import annotations

import functools
import math
import warnings
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.init import INITS, RELATIVE_EPS, generator_for
from tests.helpers import BASES, backward, dwf, identical, mlp, seeded, snapshot, ulp

KEEPING = ["preserve", "balanced"]
DRAWING = ["dwf", "varmatch"]
DEPTHS = st.integers(2, 8)
FAN_IN, FAN_OUT = 784, 300
HE_SIGMA = math.sqrt(2 / FAN_IN)


def warned_if_balanced_and_even(init: str, depth: int) -> AbstractContextManager[object]:
    if init == "balanced" and depth % 2 == 0:
        return pytest.warns(UserWarning, match=f"even depth {depth}")
    return nullcontext()


def factors_of(weight: Tensor, **options: object) -> list[Tensor]:
    options = {"penalty": 0.0, "lr": 0.1, "min_ndim": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # balanced at even depth, whole-zero tensors
        return DWFOptimizer([weight], **options).factors(weight)


# ------------------------------------------------------------------- the model's weights are kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("depth", range(2, 9))
@pytest.mark.parametrize("init", KEEPING)
def test_model_is_unchanged_until_the_first_step(init: str, depth: int, dtype: torch.dtype) -> None:
    model = mlp(dtype)
    before = snapshot(model)
    with warned_if_balanced_and_even(init, depth):
        optimizer = dwf(model, BASES[1], init=init, depth=depth, lr=0.0)
    assert identical(snapshot(model), before)
    for p in model.parameters():
        optimizer.factors(p)
    assert identical(snapshot(model), before)
    for _ in range(2):
        backward(model)
        optimizer.step()  # lr 0
    assert identical(snapshot(model), before)
    optimizer.param_groups[0]["lr"] = 0.01
    backward(model)
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(snapshot(model), before, strict=True))


def weights(dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Tiny (denormal too), huge, zero and of either sign, in every mixture."""
    width = {torch.float64: 64, torch.float16: 16}.get(dtype, 32)
    largest = 2.0**127 if dtype == torch.bfloat16 else None  # rounding up stays finite
    smallest = None if largest is None else -largest
    numbers = st.floats(smallest, largest, width=width, allow_nan=False, allow_infinity=False)
    usual = st.floats(-1, 1, width=width)
    lists = st.lists(numbers | usual | st.just(0.0), min_size=1, max_size=12)
    return lists.map(lambda values: torch.tensor(values, dtype=torch.float64).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("init", KEEPING)
@given(depth=DEPTHS, data=st.data())
def test_product_is_the_weight_to_d_ulp(
    init: str, dtype: torch.dtype, depth: int, data: st.DataObject
) -> None:
    weight = data.draw(weights(dtype))
    factors = factors_of(weight, init=init, depth=depth)
    wide = weight.to(torch.promote_types(dtype, torch.float32))
    assert all(f.dtype == wide.dtype and f.isfinite().all() for f in factors)
    found = functools.reduce(torch.mul, factors)
    assert bool(((found - wide).abs() <= depth * ulp(wide)).all())
    assert torch.equal(found == 0, wide == 0)
    if bool((wide != 0).any()):
        for factor in factors:  # a zero among others is dead: all its factors are zero
            assert bool((factor[wide == 0] == 0).all())


@pytest.mark.parametrize("value", [5e-324, 1e-200, 1e-160, 1e160, 1.7e308])
@pytest.mark.parametrize("init", KEEPING)
def test_float64_weights_whose_square_leaves_the_range(init: str, value: float) -> None:
    weight = torch.tensor([value, -value, 0.0], dtype=torch.float64)
    found = functools.reduce(torch.mul, factors_of(weight, init=init, depth=3))
    assert bool(((found - weight).abs() <= 3 * ulp(weight)).all())


@given(depth=DEPTHS, seed=st.integers(0, 2**32 - 1))
def test_balanced_factors_have_one_magnitude(depth: int, seed: int) -> None:
    weight = torch.randn(20, generator=seeded(seed), dtype=torch.float64)
    factors = factors_of(weight, init="balanced", depth=depth)
    root = weight.abs() ** (1 / depth)
    for factor in factors:
        # A root, a quotient by D - 1 of its kind: D + 4 roundings.
        assert bool(((factor.abs() - root).abs() <= (depth + 4) * 2**-52 * root).all())
    assert all((factor > 0).all() for factor in factors[:-1])
    assert torch.equal(factors[-1].sign(), weight.sign())


def test_preserved_factors_are_unbalanced_and_of_both_signs() -> None:
    weight = torch.randn(1000, generator=seeded(0))
    factors = factors_of(weight, depth=2)
    assert 400 < int((factors[0] > 0).sum()) < 600  # binomial(1000, 1/2): 6 sigma are 95
    assert float((factors[0].abs() / factors[1].abs()).log().std()) > 0.1


@pytest.mark.parametrize("depth", [2, 4, 6, 8])
def test_balanced_at_even_depth_warns_and_says_what_to_do(depth: int) -> None:
    weight = Parameter(torch.ones(2, 2))
    with pytest.warns(UserWarning, match=r"change its sign.*odd depth, or init='preserve'"):
        DWFOptimizer([weight], lr=0.1, penalty=0.0, init="balanced", depth=depth)


def test_layout_of_the_weight_is_kept() -> None:
    weight = torch.randn(4, 3, 2, 2, generator=seeded(0)).contiguous(memory_format=torch.channels_last)
    for factor in factors_of(weight):
        assert factor.stride() == weight.stride()


# --------------------------------------------------------------------- the weights that are drawn


def redrawn(init: str, depth: int, **options: object) -> Tensor:
    weight = Parameter(torch.randn(FAN_OUT, FAN_IN, generator=seeded(5)) * HE_SIGMA)
    DWFOptimizer([weight], lr=0.1, penalty=0.0, init=init, depth=depth, **options)
    return weight.detach()


def assert_spread(weight: Tensor, sigma: float, fourth: float) -> None:
    """The root mean square is sigma, given the fourth moment E[w^4]/sigma^4 of the distribution.

    The mean of n squares has standard error sqrt((fourth - 1) / n), its root half of it; six of
    them, and one more for the sample sigma that the draw was scaled by (kurtosis 3).
    """
    n = weight.numel()
    bound = 6 * math.sqrt((fourth - 1) / n) / 2 + 6 * math.sqrt(2 / n) / 2
    rms = float(weight.double().square().mean().sqrt())
    assert rms == pytest.approx(sigma, rel=bound)
    assert abs(float(weight.double().mean())) < 6 * sigma / math.sqrt(n)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_varmatch_has_the_layers_sigma_and_a_kurtosis_of_3_to_the_depth(depth: int) -> None:
    assert_spread(redrawn("varmatch", depth), HE_SIGMA, fourth=3.0**depth)


@pytest.mark.parametrize(("depth", "published"), [(2, 0.65), (3, 0.54), (4, 0.48)])
def test_truncation_shrinks_sigma_as_derived(depth: int, published: float) -> None:
    low, high = expected_bounds(HE_SIGMA, depth, RELATIVE_EPS)
    second, fourth = (truncated_moment(low, high, k) for k in (2, 4))
    shrunk = second ** (depth / 2)
    # method.md rounds to two digits, for eps = 3e-3; RELATIVE_EPS * sigma is 3.03e-3.
    assert shrunk == pytest.approx(published, abs=0.006)
    assert_spread(redrawn("dwf", depth), shrunk * HE_SIGMA, (fourth / second**2) ** depth)


def truncated_moment(low: float, high: float, k: int) -> float:
    """E[x^k] of a standard normal with low < |x| < high, by the density."""
    density = scipy.stats.norm.pdf
    mass = scipy.integrate.quad(density, low, high)[0]
    return scipy.integrate.quad(lambda x: x**k * density(x), low, high)[0] / mass


def expected_bounds(sigma: float, depth: int, eps: float) -> tuple[float, float]:
    """Algorithm 1's bounds on |f| over sigma^(1/D); the upper end where the interval is empty."""
    high = min(1, (2 * sigma) ** (1 / depth)) / sigma ** (1 / depth)
    return min((eps * sigma) ** (1 / depth) / sigma ** (1 / depth), high), high


@given(
    depth=DEPTHS,
    log_sigma=st.floats(-8, 4),
    eps=st.floats(0, 10),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_truncation_holds_for_every_sigma_and_eps(
    depth: int, log_sigma: float, eps: float, dtype: torch.dtype
) -> None:
    sigma = 10**log_sigma
    low, high = expected_bounds(sigma, depth, eps)
    shape = torch.Size([200])
    draws = INITS["dwf"].draw(shape, depth, sigma, generator_for(0, 0), dtype, eps)
    assert len(draws) == depth
    # The bounds are rounded to the dtype, and the expected ones by four operations in float64.
    slack = 1 + torch.finfo(dtype).eps + 2**-48
    for draw in draws:
        assert draw.dtype == dtype
        assert draw.shape == shape
        size = draw.double().abs()
        assert low / slack <= float(size.min())
        assert float(size.max()) <= high * slack


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_truncated_draws_follow_the_truncated_normal(depth: int) -> None:
    n = 100_000
    low, high = expected_bounds(HE_SIGMA, depth, RELATIVE_EPS)
    draws = INITS["dwf"].draw(torch.Size([n]), depth, HE_SIGMA, generator_for(1, 2), torch.float64)
    # Dvoretzky-Kiefer-Wolfowitz: the empirical CDF is farther off with probability 1e-9.
    bound = math.sqrt(math.log(2 / 1e-9) / (2 * n))
    mass = scipy.stats.norm.cdf(high) - scipy.stats.norm.cdf(low)
    for draw in draws:
        size = np.sort(draw.abs().numpy())
        truth = (scipy.stats.norm.cdf(size) - scipy.stats.norm.cdf(low)) / mass
        assert np.abs(truth - (np.arange(n) + 0.5) / n).max() < bound + 1 / n
        assert abs(int((draw > 0).sum()) - n / 2) < 6 * math.sqrt(n) / 2
    correlation = float(torch.corrcoef(torch.stack(draws)).triu(1).abs().max())
    assert correlation < 6 / math.sqrt(n)


@pytest.mark.parametrize("init", DRAWING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_redrawn_weights_are_the_factors_product(init: str, dtype: torch.dtype) -> None:
    weight = Parameter((torch.randn(40, 30, generator=seeded(5)) * 0.1).to(dtype))
    before = weight.detach().clone()
    optimizer = DWFOptimizer([weight], lr=0.1, penalty=0.0, init=init, depth=3)
    drawn = weight.detach().clone()
    assert not torch.equal(drawn, before)
    factors = optimizer.factors(weight)
    wide = drawn.to(factors[0].dtype)
    found = functools.reduce(torch.mul, factors)
    assert bool(((found - wide).abs() <= 3 * ulp(wide)).all())
    assert torch.equal(weight, drawn)


def test_tensors_without_factors_are_not_redrawn() -> None:
    model = mlp()
    before = snapshot(model)
    dwf(model, BASES[0], init="dwf")
    for p, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, old) == (p.ndim < 2)


# ----------------------------------------------------------------------------------- whose dice


@pytest.mark.parametrize("init", [*KEEPING, *DRAWING])
def test_users_random_stream_is_neither_read_nor_moved(init: str) -> None:
    runs = []
    for global_seed in (1, 2):
        model = mlp()
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        optimizer = dwf(model, BASES[4], init=init)
        backward(model)
        optimizer.step()
        assert torch.equal(torch.get_rng_state(), before)
        runs.append([f for p in model.parameters() for f in optimizer.factors(p)])
    assert identical(*runs)


@pytest.mark.parametrize("init", ["preserve", *DRAWING])
def test_seed_and_position_matter(init: str) -> None:
    def first_factors(seed: int) -> list[Tensor]:
        pair = [Parameter(torch.full((8, 8), 0.1)) for _ in range(2)]
        optimizer = DWFOptimizer(pair, lr=0.1, penalty=0.0, init=init, seed=seed)
        return [optimizer.factors(p)[0] for p in pair]

    here, there = first_factors(0), first_factors(1)
    assert identical(here, first_factors(0))
    assert not torch.equal(here[0], here[1])
    assert not torch.equal(here[0], there[0])
    # Position p of seed s is not position p + 1 of seed s - 1.
    assert not torch.equal(here[1], there[0])


def test_draws_do_not_depend_on_how_parameters_are_grouped() -> None:
    def factors(grouped: bool) -> list[Tensor]:
        pair = [Parameter(torch.full((4, 4), 0.1)) for _ in range(2)]
        params = [{"params": [p]} for p in pair] if grouped else pair
        optimizer = DWFOptimizer(params, lr=0.1, penalty=0.0)
        # Nor on which is asked first.
        order = reversed(pair) if grouped else pair
        drawn = {id(p): optimizer.factors(p) for p in order}
        return [f for p in pair for f in drawn[id(p)]]

    assert identical(factors(True), factors(False))
