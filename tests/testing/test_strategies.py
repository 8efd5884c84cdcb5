"""The strategies draw what they say, and all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dwf_optim.testing import Objective, depths, factors, objectives, penalties, shapes, weights

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_dtype
@given(data=st.data(), shape=shapes())
def test_weights_are_finite_and_normal(
    dtype: torch.dtype, data: st.DataObject, shape: tuple[int, ...]
) -> None:
    weight = data.draw(weights(shape, dtype))
    assert weight.dtype == dtype
    assert weight.shape == shape
    assert weight.numel() > 0
    assert bool(weight.isfinite().all())
    assert bool(((weight == 0) | (weight.abs() >= torch.finfo(dtype).tiny)).all())


@every_dtype
@pytest.mark.parametrize(
    "wanted",
    [
        lambda w: (w == 0).any() and (w != 0).any(),
        lambda w: (w < 0).any() and (w > 0).any(),
        lambda w: ((w != 0) & (w.abs() < torch.finfo(w.dtype).tiny ** 0.5)).any(),
        lambda w: (w.abs() > torch.finfo(w.dtype).max ** 0.5).any(),
    ],
    ids=["zeros", "both signs", "tiny", "huge"],
)
def test_weights_are_of_every_kind(dtype: torch.dtype, wanted: Callable[[Tensor], Tensor]) -> None:
    options = settings(max_examples=2000, derandomize=True, database=None)
    assert find(weights((3,), dtype), lambda w: bool(wanted(w)), settings=options) is not None


@given(weights(zeros=False, extremes=False))
def test_zeros_and_extremes_can_be_left_out(weight: Tensor) -> None:
    assert bool(((weight.abs() >= 2**-10) & (weight.abs() <= 1)).all())


@every_dtype
@given(data=st.data())
def test_factors_can_be_multiplied_and_squared(dtype: torch.dtype, data: st.DataObject) -> None:
    drawn = data.draw(factors(dtype=dtype))
    assert 2 <= len(drawn) <= 8
    stacked = torch.stack(drawn).abs()
    assert stacked.dtype == dtype
    # Of what is not zero, no product of all, nor of squares, leaves the normal numbers.
    nonzero = torch.where(stacked == 0, 1.0, stacked)
    info = torch.finfo(dtype)
    for product in (nonzero.prod(0), nonzero.square()):
        assert bool(((product >= info.tiny) & (product <= info.max)).all())


@given(factors(depth=st.integers(2, 4), balanced=True))
def test_balanced_factors_have_one_magnitude_to_the_bit(drawn: list[Tensor]) -> None:
    assert all(torch.equal(factor.abs(), drawn[0].abs()) for factor in drawn)


@given(factors(depth=3, shape=(2, 2), balanced=False, zeros=False))
def test_factors_of_a_given_depth_and_shape(drawn: list[Tensor]) -> None:
    assert [tuple(factor.shape) for factor in drawn] == [(2, 2)] * 3
    assert all(bool((factor != 0).all()) for factor in drawn)


@given(depth=depths(1, 3), penalty=penalties(0.5, 2.0))
def test_numbers_are_within_their_ends(depth: int, penalty: float) -> None:
    assert 1 <= depth <= 3
    assert 0.5 <= penalty <= 2.0


@given(objective=objectives(), seed=st.integers(0, 2**32 - 1))
def test_objectives_have_the_gradient_and_curvature_that_they_say(
    objective: Objective, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, direction = torch.randn(2, objective.size, generator=generator, dtype=torch.float64)
    assert objective(weight).ndim == 0
    # The central difference of a function with third derivatives of size 1 is exact to step^2.
    step = 1e-5
    slope = (objective(weight + step * direction) - objective(weight - step * direction)) / (2 * step)
    scale = 1 + float(objective.gradient(weight).norm() * direction.norm())
    assert float(slope - objective.gradient(weight) @ direction) == pytest.approx(0, abs=1e-6 * scale)
    if objective.convex:
        eigenvalues = torch.linalg.eigvalsh(torch.func.hessian(objective)(weight))
        assert float(eigenvalues[-1]) <= objective.curvature() * (1 + 1e-12)
        assert float(eigenvalues[0]) >= -1e-12


def test_an_objective_is_made_again_from_what_it_prints() -> None:
    objective = Objective("mlp", features=3, seed=5)
    again = eval(repr(objective))
    weight = torch.linspace(-1, 1, objective.size)
    assert torch.equal(objective(weight), again(weight))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"dtype must be one of .*float16.*got torch\.int32"):
        weights((2,), torch.int32)
    with pytest.raises(ValueError, match=r"kind must be one of .*got 'cubic'"):
        Objective("cubic", 2, 0)
    with pytest.raises(ValueError, match="features must be >= 1, got 0"):
        Objective("mlp", 0, 0)
    with pytest.raises(ValueError, match="'mlp' have no bound"):
        Objective("mlp", 2, 0).curvature()
