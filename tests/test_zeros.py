"""What becomes of a zero weight: the table in design.md, row by row, and no zero comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.learning_rate import REFERENCE_WEIGHT
from tests.helpers import BASES, Base, backward, dwf, every_base, mlp, seeded, step_with, train

BY_NAME = {base.name: base for base in BASES}


def matrices(model: nn.Module) -> list[Parameter]:
    return [p for p in model.parameters() if p.ndim >= 2]


def elementwise_state(optimizer: DWFOptimizer, p: Tensor) -> list[Tensor]:
    values = optimizer.state[p].values()
    return [v for v in values if isinstance(v, Tensor) and v.shape == p.shape]


# ------------------------------------------------------------------------- zeros after sparsify


@pytest.mark.parametrize("backend", ["reference", "blocked", "auto"])
@every_base
def test_no_zero_comes_back_after_sparsify(base: Base, backend: str) -> None:
    model = mlp()
    optimizer = dwf(model, base, backend=backend)
    train(model, optimizer, 10)
    sparsify(model, optimizer, sparsity=0.6)
    masks = [p == 0 for p in matrices(model)]
    kept = [p[~mask].detach().clone() for p, mask in zip(matrices(model), masks, strict=True)]
    assert sum(int(mask.sum()) for mask in masks) >= 0.6 * sum(mask.numel() for mask in masks)
    for _ in range(100):
        backward(model)
        optimizer.step()
        for p, mask in zip(matrices(model), masks, strict=True):
            assert not p[mask].any()
    for p, mask, before in zip(matrices(model), masks, kept, strict=True):
        assert not torch.equal(p[~mask], before)  # the others go on learning
        for tensor in elementwise_state(optimizer, p):
            assert not tensor[mask].any() or tensor.dtype == torch.bool


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_no_zero_comes_back_after_saving_and_loading(name: str) -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME[name])
    train(model, optimizer, 10)
    sparsify(model, optimizer, sparsity=0.6)
    masks = [p == 0 for p in matrices(model)]
    resumed = mlp(seed=1)
    resumed.load_state_dict(model.state_dict())
    again = dwf(resumed, BY_NAME[name])
    again.load_state_dict(optimizer.state_dict())
    train(resumed, again, 100)
    assert all(not p[mask].any() for p, mask in zip(matrices(resumed), masks, strict=True))


# ------------------------------------------------------------------------ a whole tensor is zero


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_a_whole_zero_tensor_trains_and_warns_once_by_name(depth: int) -> None:
    model = mlp()
    with torch.no_grad():
        model[2].weight.zero_()
    optimizer = dwf(model, BY_NAME["Adam"], depth=depth, penalty=0.0)
    backward(model)
    with pytest.warns(UserWarning, match=r"2\.weight.*is all zero") as caught:
        optimizer.step()
    assert len(caught) == 1
    train(model, optimizer, 5)  # a second warning would be an error
    assert bool((model[2].weight != 0).all())
    assert all(f.isfinite().all() for f in optimizer.factors(model[2].weight))


def test_a_whole_zero_tensor_starts_with_one_zero_factor() -> None:
    weight = Parameter(torch.zeros(3, 4))
    optimizer = DWFOptimizer([weight], lr=0.1, penalty=0.0, depth=3)
    with pytest.warns(UserWarning, match=r"number 0 .*\(3, 4\)"):
        factors = optimizer.factors(weight)
    root = torch.full((3, 4), REFERENCE_WEIGHT ** (1 / 3))
    assert sorted(int(f.count_nonzero()) for f in factors) == [0, 12, 12]
    assert all(torch.equal(f, root) for f in factors if f.any())
    assert not weight.any()


# ------------------------------------------------------------------------- single zeros at start


@pytest.mark.parametrize("init", ["preserve", "balanced"])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "Rprop"])
def test_single_zeros_at_the_start_stay_zero(name: str, init: str) -> None:
    model = mlp()
    with torch.no_grad():
        for p in matrices(model):
            p.view(-1)[::3] = 0
    masks = [p == 0 for p in matrices(model)]
    optimizer = dwf(model, BY_NAME[name], init=init)
    train(model, optimizer, 50)
    for p, mask in zip(matrices(model), masks, strict=True):
        assert not p[mask].any()
        assert bool((p[~mask] != 0).all())


# --------------------------------------------------------------------- writes from the outside


@every_base
def test_a_zero_written_from_outside_stays_and_clears_the_state(base: Base) -> None:
    model = mlp()
    optimizer = dwf(model, base)
    train(model, optimizer, 5)
    masks = []
    with torch.no_grad():
        for p in matrices(model):
            mask = torch.rand(p.shape, generator=seeded(3)) < 0.5
            p.masked_fill_(mask, 0)
            masks.append(mask)
    train(model, optimizer, 50)
    for p, mask in zip(matrices(model), masks, strict=True):
        assert not p[mask].any()
        for tensor in elementwise_state(optimizer, p):
            assert not tensor[mask].any()


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_a_whole_tensor_zeroed_from_outside_stays_zero(name: str) -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME[name])
    train(model, optimizer, 5)
    with torch.no_grad():
        model[2].weight.zero_()
    train(model, optimizer, 20)
    assert not model[2].weight.any()


@pytest.mark.parametrize("how", ["copy_", "load_state_dict", "mul_", "init_", "data"])
def test_other_values_written_from_outside_are_taken_over(how: str) -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME["SGD"], lr=1e-6, lr_scale=1.0)
    train(model, optimizer, 3)
    weight = model[0].weight
    other = mlp(seed=5)
    with torch.no_grad():
        if how == "copy_":
            weight.copy_(other[0].weight)
        elif how == "load_state_dict":
            model.load_state_dict(other.state_dict())
        elif how == "mul_":
            weight.mul_(-3)
        elif how == "init_":
            nn.init.constant_(weight, 0.25)
        else:
            weight.data = other[0].weight.detach().clone()
    written = weight.detach().clone()
    train(model, optimizer, 1)
    # One step at this rate moves a weight by less than 1e-4 of itself and by something.
    torch.testing.assert_close(weight, written, rtol=1e-4, atol=1e-5)
    assert not torch.equal(weight, written)


def test_a_weight_revived_from_outside_trains_again() -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME["Adam"], penalty=0.0)
    train(model, optimizer, 5)
    sparsify(model, optimizer, sparsity=0.9)
    weight = model[2].weight  # of the last layer, where every weight has a gradient
    with torch.no_grad():
        weight.copy_(torch.where(weight == 0, 0.1, weight))
    before = weight.detach().clone()
    train(model, optimizer, 3)
    assert bool((weight != before).all())
    assert bool((weight != 0).all())


@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(2, 8))
def test_an_outside_write_keeps_the_factors_of_untouched_weights(seed: int, depth: int) -> None:
    generator = seeded(seed)
    weight = Parameter(torch.randn(4, 5, generator=generator))
    optimizer = DWFOptimizer([weight], lr=0.01, momentum=0.9, penalty=1e-3, depth=depth)
    step_with(optimizer, {weight: torch.randn(4, 5, generator=generator)})
    touched = torch.rand(4, 5, generator=generator) < 0.3
    before = [t.clone() for t in elementwise_state(optimizer, weight)]
    with torch.no_grad():
        weight.masked_fill_(touched, 0.5)
    optimizer.factors(weight)
    for tensor, old in zip(elementwise_state(optimizer, weight), before, strict=True):
        assert torch.equal(tensor[~touched], old[~touched])
    # 0.5 to 2 ulp of float32, from `match`.
    found = torch.stack(optimizer.factors(weight)).prod(0)[touched]
    assert bool(((found - 0.5).abs() <= depth * 2.0**-24).all())


# --------------------------------------------------------------------------------- underflow


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_flush_makes_the_dead_exactly_zero_and_nan_stays(depth: int, dtype: torch.dtype) -> None:
    bound = torch.finfo(dtype).tiny ** (1 / depth)

    def after_a_step(flush: str | None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        weight = Parameter(torch.ones(1, 4, dtype=dtype))
        optimizer = DWFOptimizer(
            [weight], 1e-6, momentum=0.9, penalty=1e-3, depth=depth, flush=flush, lr_scale=1.0
        )
        # A step makes momentum; then the factors as a long decay would leave them.
        step_with(optimizer, {weight: torch.zeros_like(weight)})
        factors = optimizer.factors(weight)
        for factor in factors:
            factor.copy_(torch.tensor([[1.0, 0.25 * bound, 4 * bound, 1.0]], dtype=dtype))
        factors[0][0, 3] = torch.nan
        for tensor in elementwise_state(optimizer, weight):
            if not any(tensor is f for f in factors):
                tensor.fill_(0.25 * bound)
        step_with(optimizer, {weight: torch.zeros_like(weight)})
        moments = [t for t in elementwise_state(optimizer, weight) if all(t is not f for f in factors)]
        return weight.detach(), factors, moments

    weight, factors, moments = after_a_step("dead")
    assert moments
    dead = torch.tensor([[False, True, False, False]])
    for factor in factors:
        assert torch.equal(factor == 0, dead)
    assert all(not m[dead].any() and m[0, 2] != 0 for m in moments)
    assert weight[0, 1] == 0
    assert weight[0, 3].isnan()
    _, factors, moments = after_a_step(None)
    assert all(factor[0, 1] != 0 for factor in [*factors, *moments])


def test_unknown_values_are_not_hidden() -> None:
    """A NaN gradient makes its weight NaN and leaves the others alone."""
    weight = Parameter(torch.ones(2, 2))
    optimizer = DWFOptimizer([weight], lr=0.1, penalty=1e-3)
    grad = torch.zeros(2, 2)
    grad[0, 1] = torch.nan
    step_with(optimizer, {weight: grad})
    assert torch.equal(weight.isnan(), grad.isnan())
    with pytest.raises(ValueError, match="NaN"):
        sparsify(nn.ParameterList([weight]), optimizer, threshold=0.5)
    assert torch.equal(weight.isnan(), grad.isnan())
