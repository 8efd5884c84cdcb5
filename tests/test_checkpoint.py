"""Saved, loaded, copied and pickled: the run goes on to the bit."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import (
    BASES,
    Base,
    assert_same_state,
    dwf,
    every_base,
    identical,
    mlp,
    snapshot,
    train,
)

BY_NAME = {base.name: base for base in BASES}
MOMENTUM = BY_NAME["SGD-momentum"]


def through_disk(value: object) -> object:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def resume(model: nn.Module, optimizer: DWFOptimizer, base: Base) -> tuple[nn.Module, DWFOptimizer]:
    """What a user does in a fresh process."""
    fresh = mlp(next(model.parameters()).dtype, seed=7)
    other = dwf(fresh, base)
    fresh.load_state_dict(through_disk(model.state_dict()))
    other.load_state_dict(through_disk(optimizer.state_dict()))
    return fresh, other


def check_resume(
    base: Base, steps: int, dtype: torch.dtype = torch.float32, first_rate: float | None = None
) -> None:
    model = mlp(dtype)
    optimizer = dwf(model, base)
    rate = optimizer.param_groups[0]["lr"]
    if first_rate is not None:
        optimizer.param_groups[0]["lr"] = first_rate
    train(model, optimizer, steps)
    again, resumed = resume(model, optimizer, base)
    assert_same_state(optimizer, resumed)
    for each in (optimizer, resumed):
        each.param_groups[0]["lr"] = rate
    train(model, optimizer, 6)
    train(again, resumed, 6)
    assert identical(snapshot(model), snapshot(again))
    assert_same_state(optimizer, resumed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@every_base
@given(steps=st.integers(0, 8))
def test_resumed_run_is_the_same_to_the_bit(base: Base, dtype: torch.dtype, steps: int) -> None:
    check_resume(base, steps, dtype)


def test_resume_after_a_warm_up_step_at_rate_zero() -> None:
    """Factors then exist whose product is the weight only to rounding."""
    check_resume(MOMENTUM, 1, first_rate=0.0)
    check_resume(BY_NAME["Adam"], 3, first_rate=0.0)


def test_looking_at_factors_does_not_change_a_run() -> None:
    model, twin = mlp(), mlp()
    optimizer, other = dwf(model, MOMENTUM), dwf(twin, MOMENTUM)
    for _ in range(4):
        for p in model.parameters():
            optimizer.factors(p)
        copied_model, copied = copy.deepcopy((model, optimizer))
        assert_same_state(copied, optimizer)
        for p in copied_model.parameters():
            copied.factors(p)
        assert_same_state(copied, optimizer)
        train(model, optimizer, 1)
        train(twin, other, 1)
    assert identical(snapshot(model), snapshot(twin))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_keep_float32_factors_through_loading(dtype: torch.dtype) -> None:
    model = mlp(dtype)
    optimizer = dwf(model, MOMENTUM)
    train(model, optimizer, 3)
    _, resumed = resume(model, optimizer, MOMENTUM)
    for each in (optimizer, resumed):
        for p in each.factorized():
            for factor in each.factors(p):
                assert factor.dtype == torch.float32
                assert not torch.equal(factor, factor.to(dtype).float())
            rounded = torch.stack(each.factors(p)).prod(0).to(dtype)
            torch.testing.assert_close(p.detach(), rounded)


def test_loading_copies() -> None:
    model = mlp()
    optimizer = dwf(model, MOMENTUM)
    train(model, optimizer, 3)
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    again = mlp()
    again.load_state_dict(model.state_dict())
    resumed = dwf(again, MOMENTUM)
    resumed.load_state_dict(saved)
    train(again, resumed, 3)
    assert saved["param_groups"] == kept["param_groups"]
    for index, state in kept["state"].items():
        assert identical(list(saved["state"][index].values()), list(state.values()))


def by_deepcopy(pair: tuple[nn.Module, DWFOptimizer]) -> tuple[nn.Module, DWFOptimizer]:
    return copy.deepcopy(pair)


def by_pickle(pair: tuple[nn.Module, DWFOptimizer]) -> tuple[nn.Module, DWFOptimizer]:
    return pickle.loads(pickle.dumps(pair))


@pytest.mark.parametrize("duplicate", [by_deepcopy, by_pickle])
@pytest.mark.parametrize("steps", [0, 3])
@every_base
def test_copies_go_on_alike_and_apart(
    base: Base, steps: int, duplicate: Callable[[object], tuple[nn.Module, DWFOptimizer]]
) -> None:
    model = mlp()
    optimizer = dwf(model, base)
    train(model, optimizer, steps)
    before = snapshot(model)
    other, copied = duplicate((model, optimizer))
    assert repr(copied) == repr(optimizer)
    train(other, copied, 4)
    assert identical(snapshot(model), before)
    train(model, optimizer, 4)
    assert identical(snapshot(model), snapshot(other))
    assert_same_state(optimizer, copied)
    copied.add_param_group({"params": [("late", Parameter(torch.ones(2, 2)))]})


def test_a_redrawn_start_survives_pickling_before_the_first_step() -> None:
    model = mlp()
    optimizer = dwf(model, MOMENTUM, init="dwf")
    other, copied = by_pickle((model, optimizer))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert identical(optimizer.factors(p), copied.factors(q))


@pytest.mark.parametrize("init", ["dwf", "varmatch"])
def test_a_redrawn_start_survives_a_checkpoint_before_the_first_step(init: str) -> None:
    model = mlp()
    optimizer = dwf(model, MOMENTUM, init=init)
    assert not optimizer.state
    saved = through_disk([model.state_dict(), optimizer.state_dict()])
    assert not optimizer.state
    other = mlp(seed=8)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(7)  # a draw at another scale
    copied = dwf(other, MOMENTUM, init=init)
    other.load_state_dict(saved[0])
    copied.load_state_dict(saved[1])
    assert not copied.state
    train(model, optimizer, 2)
    train(other, copied, 2)
    assert identical(snapshot(model), snapshot(other))
    assert_same_state(optimizer, copied)


@pytest.mark.parametrize("options", [{}, {"storage": "tied"}, {"structure": "neuron"}])
@pytest.mark.parametrize("shape", [(3, 4), (1, 4)])
def test_factors_of_another_shape_are_refused(options: dict[str, str], shape: tuple[int, int]) -> None:
    """Those that broadcast would otherwise give the model's parameter their own shape."""
    wide, weight = Parameter(torch.ones(4, 4)), Parameter(torch.ones(shape))
    saved, other = (DWFOptimizer([p], 0.02, penalty=1e-3, **options) for p in (wide, weight))
    for p, optimizer in ((wide, saved), (weight, other)):
        p.grad = torch.ones_like(p)
        optimizer.step()
    untouched = copy.deepcopy(other)
    with pytest.raises(ValueError, match=r"parameter number 0 has shape \(4, 4\), .* same order"):
        other.load_state_dict(saved.state_dict())
    assert_same_state(other, untouched)


def test_checkpoint_hooks_fire_once() -> None:
    model = mlp()
    optimizer = dwf(model, MOMENTUM)
    train(model, optimizer, 1)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("save pre"))
    optimizer.register_state_dict_post_hook(lambda o, s: seen.append("save post"))
    optimizer.register_load_state_dict_pre_hook(lambda o, s: seen.append("load pre"))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("load post"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["save pre", "save post", "load pre", "load post"]


def test_what_hooks_put_beside_the_state_is_loaded_as_torch_does() -> None:
    model, twin = mlp(), mlp()
    optimizer, other = dwf(model, BY_NAME["Adam"]), dwf(twin, BY_NAME["Adam"])
    train(model, optimizer, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"]["note"] = {"seen": 7}
    other.load_state_dict(saved)
    assert other.state["note"] == {"seen": 7}
    del other.state["note"]
    assert_same_state(optimizer, other)


@pytest.mark.parametrize("on_device", [True, False])
def test_counts_go_where_the_base_wants_them(on_device: bool) -> None:
    """Adam keeps its count on the CPU, but on the device if capturable, also after loading."""
    model = mlp()
    optimizer = dwf(model, BY_NAME["Adam"])
    train(model, optimizer, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["capturable"] = on_device
    weight = Parameter(torch.empty(8, 6, device="meta"))
    rest = [Parameter(torch.empty_like(p, device="meta")) for p in list(model.parameters())[1:]]
    other = DWFOptimizer([weight, *rest], base=torch.optim.Adam, penalty=1e-3)
    other.load_state_dict(saved)
    state = other.state[weight]
    assert state["factor.0"].device.type == state["base.0.exp_avg"].device.type == "meta"
    assert state["base.0.step"].device.type == ("meta" if on_device else "cpu")
