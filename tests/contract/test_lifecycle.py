"""Freezing, tying, closures, hooks, names, copies, checkpoints moved between devices."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from dwf_optim import param_groups
from tests.contract.common import BY_NAME, PENALTY, Shadow, build, randn, rounding, through_disk
from tests.helpers import (
    BASES,
    Base,
    assert_same_state,
    backward,
    every_base,
    identical,
    mlp,
    snapshot,
    step_with,
    train,
)

MOMENTUM = BY_NAME["SGD-momentum"]
PER_PARAMETER = [base for base in BASES if base.name != "Lion"]  # Lion counts steps in its group


# ------------------------------------------------------------------------------ freezing, tying


@pytest.mark.parametrize("base", PER_PARAMETER, ids=lambda base: base.name)
def test_a_parameter_frozen_in_mid_training_sleeps(base: Base) -> None:
    """Factors and base state wait: for it, the steps in between have not been."""
    sleeper, other = Parameter(randn(4, 3, seed=1)), Parameter(randn(4, 3, seed=2))
    twin, twin_other = Parameter(randn(4, 3, seed=1)), Parameter(randn(4, 3, seed=2))
    optimizer, plain = build([sleeper, other], base), build([twin, twin_other], base)
    for step in range(9):
        grad = randn(4, 3, seed=10 + step)
        if 3 <= step < 6:
            sleeper.requires_grad_(False)
            sleeper.grad = None
            step_with(optimizer, {other: grad})
        else:
            sleeper.requires_grad_(True)
            step_with(optimizer, {sleeper: grad, other: grad})
            step_with(plain, {twin: grad})
    assert torch.equal(sleeper, twin)
    for a, b in zip(optimizer.factors(sleeper), plain.factors(twin), strict=True):
        assert torch.equal(a, b)


class TiedLanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6, padding_idx=0)
        self.hidden = nn.Linear(6, 6)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.embedding.weight
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(0.5 * randn(*p.shape, seed=i))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.embedding(tokens))))


@every_base
def test_tied_embedding_and_head_are_stepped_once(base: Base) -> None:
    model = TiedLanguageModel()
    groups = param_groups(model, penalty=PENALTY, include=[nn.Embedding])
    optimizer = build(groups, base)
    tied = model.embedding.weight
    assert sum(p is tied for p in optimizer.factorized()) == 1
    shadow = Shadow(optimizer, [tied, model.hidden.weight], base)
    tokens = torch.tensor([[1, 4, 2, 0], [3, 3, 8, 5]])
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(1, 1).flatten())
        loss.backward()
        shadow.step()
        optimizer.step()
        losses.append(loss.item())
    shadow.check(rounding(torch.float32, 6))
    assert losses[-1] < losses[0]
    assert model.head.weight is model.embedding.weight


# ------------------------------------------------------------------------------ closures, hooks


def test_a_closure_that_fails_leaves_everything() -> None:
    model = mlp()
    optimizer = build(model.parameters(), MOMENTUM)
    train(model, optimizer, 2)
    weights, state = snapshot(model), copy.deepcopy(optimizer.state_dict())

    def closure() -> Tensor:
        backward(model)
        raise FloatingPointError("loss is NaN")

    with pytest.raises(FloatingPointError, match="loss is NaN"):
        optimizer.step(closure)
    assert identical(snapshot(model), weights)
    assert optimizer.state_dict()["param_groups"] == state["param_groups"]
    assert torch.is_grad_enabled()


def test_a_closure_runs_with_gradients_even_under_no_grad() -> None:
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), MOMENTUM), build(twin.parameters(), MOMENTUM)
    with torch.no_grad():
        loss = optimizer.step(closure=lambda: backward(model))
    assert loss == backward(twin)
    plain.step()
    assert identical(snapshot(model), snapshot(twin))


@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "AdamW"])
def test_hooks_fire_once_whatever_the_groups(name: str, flags: dict[str, Any]) -> None:
    """Three groups are five calls of the base; hooks and profiler ranges must count one step."""
    model = mlp()
    groups = [
        {"params": [model[0].weight]},
        {"params": [model[2].weight, model[2].bias], "depth": 2},
        {"params": [model[0].bias], "depth": 1},
    ]
    optimizer = build(groups, BY_NAME[name], **flags)
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: seen.append(f"global pre {o is optimizer}")),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(f"global post {o is optimizer}")),
        optimizer.register_step_pre_hook(lambda *_: seen.append("pre")),
        optimizer.register_step_post_hook(lambda *_: seen.append("post")),
    ]
    once = ["global pre True", "pre", "post", "global post True"]
    try:
        backward(model)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            optimizer.step()
        assert sorted(seen) == sorted(once)
        assert seen.index("post") > seen.index("pre")
        again = copy.deepcopy(optimizer)  # a copy has no local hooks, and the global ones once
        seen.clear()
        again.step()
        assert sorted(seen) == ["global post False", "global pre False"]
    finally:
        for handle in handles:
            handle.remove()
    seen.clear()
    optimizer.step()
    assert seen == []
    ranges = {e.key: e.count for e in profile.key_averages() if e.key.startswith("Optimizer.step")}
    assert ranges == {"Optimizer.step#DWFOptimizer.step": 1}


def test_pre_hook_may_replace_the_arguments() -> None:
    model = mlp()
    optimizer = build(model.parameters(), MOMENTUM)
    optimizer.register_step_pre_hook(lambda o, *_: ((o, lambda: backward(model)), {}))
    assert isinstance(optimizer.step(), Tensor)
    assert not identical(snapshot(model), snapshot(mlp()))


def test_load_hooks_may_replace_the_state_dict_in_order() -> None:
    model = mlp()
    optimizer = build(model.parameters(), MOMENTUM)
    train(model, optimizer, 1)
    saved = optimizer.state_dict()

    def set_rate(rate: float) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
        def hook(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
            groups = [{**group, "lr": rate} for group in state_dict["param_groups"]]
            return {**state_dict, "param_groups": groups}

        return hook

    late = optimizer.register_load_state_dict_pre_hook(set_rate(0.5))
    optimizer.register_load_state_dict_pre_hook(set_rate(0.25), prepend=True)
    rates = []
    optimizer.register_load_state_dict_post_hook(lambda o: rates.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(saved)
    late.remove()
    optimizer.load_state_dict(saved)
    assert rates == [0.5, 0.25]
    assert saved["param_groups"][0]["lr"] == MOMENTUM.options["lr"]
    optimizer.register_state_dict_post_hook(lambda o, s: {**s, "format": 1})
    assert optimizer.state_dict()["format"] == 1


# -------------------------------------------------------------------- names, copies, checkpoints


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("loads_named", [False, True])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_names_in_checkpoints_are_torchs(name: str, named: bool, loads_named: bool) -> None:
    def names(optimizer_of: Callable[[Any], torch.optim.Optimizer]) -> object:
        model, other = mlp(), mlp()
        one = optimizer_of(model.named_parameters() if named else model.parameters())
        two = optimizer_of(other.named_parameters() if loads_named else other.parameters())
        train(model, one, 2)
        two.load_state_dict(copy.deepcopy(one.state_dict()))  # torch's own loading shares tensors
        other.load_state_dict(model.state_dict())
        train(model, one, 2)
        train(other, two, 2)
        assert identical(snapshot(model), snapshot(other))
        return two.param_groups[0].get("param_names"), two.state_dict()["param_groups"][0].get(
            "param_names"
        )

    base = BY_NAME[name]
    assert names(lambda p: build(p, base)) == names(lambda p: base.cls(p, **base.options))


@pytest.mark.parametrize("where", ["cpu", torch.device("cpu"), {"cpu": "cpu"}, lambda s, _: s], ids=repr)
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "Lion"])
def test_map_location(name: str, where: Any) -> None:
    model = mlp()
    optimizer = build(model.parameters(), BY_NAME[name])
    train(model, optimizer, 3)
    other = copy.deepcopy(model)
    fresh = build(other.parameters(), BY_NAME[name])
    fresh.load_state_dict(through_disk(optimizer.state_dict(), map_location=where))
    assert_same_state(optimizer, fresh)
    train(model, optimizer, 3)
    train(other, fresh, 3)
    assert identical(snapshot(model), snapshot(other))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_have_all_public_attributes_and_share_nothing(duplicate: Callable[[Any], Any]) -> None:
    model = mlp()
    optimizer = build(model.named_parameters(), BY_NAME["Adam"], seed=5, backend="reference")
    train(model, optimizer, 2)
    copied = duplicate(optimizer)
    public = {key for key in vars(optimizer) if not key.startswith("_")}
    assert public == {key for key in vars(copied) if not key.startswith("_")}
    assert copied.defaults == optimizer.defaults
    mine = {v.data_ptr() for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)}
    theirs = {v.data_ptr() for s in copied.state.values() for v in s.values() if isinstance(v, Tensor)}
    assert not mine & theirs
