"""The optimizer as an optimizer: groups, checkpoints, hooks, closures, learning rates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from dwf_optim import DWFOptimizer, sparsify
from tests.helpers import (
    BASES,
    Base,
    backward,
    dwf,
    every_base,
    identical,
    mlp,
    snapshot,
    step_with,
    train,
)

BY_NAME = {base.name: base for base in BASES}
MOMENTUM = BY_NAME["SGD-momentum"]


# -------------------------------------------------------------------------------------- groups


def test_every_option_may_stand_in_a_group() -> None:
    options = {"lr": 0.02, "momentum": 0.5, "depth": 4, "penalty": 0.02, "lr_scale": 2.0}
    model, twin = mlp(), mlp()
    grouped = DWFOptimizer(
        [{"params": [p], **options} for p in model.parameters()], lr=0.1, penalty=1e-3
    )
    train(model, grouped, 5)
    train(twin, DWFOptimizer(twin.parameters(), **options), 5)
    assert identical(snapshot(model), snapshot(twin))


def test_groups_of_different_depths_do_not_mix() -> None:
    model, alone = mlp(), mlp()
    mixed = DWFOptimizer(
        [
            {"params": [model[0].weight], "depth": 2, "penalty": 0.01},
            {"params": [model[0].bias, model[2].weight, model[2].bias], "depth": 1},
        ],
        lr=0.05,
        penalty=0.0,
        momentum=0.9,
    )
    one = DWFOptimizer([alone[0].weight], lr=0.05, penalty=0.01, momentum=0.9, depth=2)
    rest = torch.optim.SGD([alone[0].bias, alone[2].weight, alone[2].bias], lr=0.05, momentum=0.9)
    for _ in range(10):
        backward(model)
        mixed.step()
        backward(alone)
        one.step()
        rest.step()
    assert identical(snapshot(model), snapshot(alone))
    assert [len(mixed.factors(p)) for p in model.parameters()] == [2, 0, 0, 0]
    assert [p is model[0].weight for p in mixed.factorized()] == [True]


def test_a_group_added_in_training_starts_then() -> None:
    model = mlp()
    optimizer = DWFOptimizer(model[0].parameters(), lr=0.05, penalty=1e-3)
    before = snapshot(model)
    train(model, optimizer, 3)
    assert identical(snapshot(model)[2:], before[2:])
    optimizer.add_param_group({"params": model[2].parameters(), "depth": 2})
    train(model, optimizer, 3)
    assert len(optimizer.factors(model[2].weight)) == 2
    assert not torch.equal(model[2].weight, before[2])


def test_no_gradient_no_state_no_change() -> None:
    model = mlp()
    optimizer = dwf(model, MOMENTUM)
    frozen = model[0].weight
    frozen.requires_grad_(False)
    before = frozen.detach().clone()
    train(model, optimizer, 3)
    assert torch.equal(frozen, before)
    assert frozen not in optimizer.state
    frozen.requires_grad_(True)
    train(model, optimizer, 3)
    assert not torch.equal(frozen, before)


def test_a_backward_that_is_missing_is_no_error() -> None:
    model = mlp()
    before = snapshot(model)
    optimizer = dwf(model, BASES[0])
    optimizer.step()
    assert identical(snapshot(model), before)
    assert not optimizer.state
    backward(model)
    optimizer.step()
    assert optimizer.state


# ------------------------------------------------------------------------------- learning rates


@every_base
def test_rate_zero_writes_nothing(base: Base) -> None:
    model = mlp()
    optimizer = dwf(model, base)
    train(model, optimizer, 3)
    weights = [p for p in model.parameters() if p.ndim >= 2]
    before = [p.detach().clone() for p in weights]
    factors = [f.clone() for p in weights for f in optimizer.factors(p)]
    versions = [p._version for p in weights]
    optimizer.param_groups[0]["lr"] = 0.0
    train(model, optimizer, 3)
    assert identical(weights, before)
    assert identical([f for p in weights for f in optimizer.factors(p)], factors)
    assert [p._version for p in weights] == versions


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_rate_as_a_tensor(name: str) -> None:
    base = BY_NAME[name]
    model, twin = mlp(), mlp()
    rate = torch.tensor(base.options["lr"], dtype=torch.float64)
    tensor = dwf(model, base, lr=rate, foreach=False)
    train(model, tensor, 5)
    train(twin, dwf(twin, base, foreach=False), 5)
    # The rate times the scale is rounded elsewhere, by a few ulp of float32.
    torch.testing.assert_close(snapshot(model), snapshot(twin), rtol=1e-5, atol=1e-7)
    assert rate == base.options["lr"]
    rate.fill_(0.0)
    before = snapshot(model)
    train(model, tensor, 1)
    assert identical(snapshot(model), before)


def test_a_schedule_moves_the_rate() -> None:
    model, twin = mlp(), mlp()
    optimizer = dwf(model, MOMENTUM)
    schedule = LambdaLR(optimizer, lambda t: 0.5**t)
    by_hand = dwf(twin, MOMENTUM)
    for step in range(4):
        train(model, optimizer, 1)
        schedule.step()
        by_hand.param_groups[0]["lr"] = MOMENTUM.options["lr"] * 0.5**step
        train(twin, by_hand, 1)
    assert identical(snapshot(model), snapshot(twin))


# ----------------------------------------------------------------------------- closure, hooks, repr


def test_closure_is_called_once_with_gradients_and_its_loss_returned() -> None:
    model, twin = mlp(), mlp()
    optimizer, plain = dwf(model, MOMENTUM), dwf(twin, MOMENTUM)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        return backward(model)

    loss = optimizer.step(closure)
    assert calls == [True]
    assert torch.equal(loss, backward(twin))
    assert plain.step() is None
    assert identical(snapshot(model), snapshot(twin))


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "Lion"])
def test_hooks_fire_once(name: str) -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME[name])
    seen: list[tuple[str, object]] = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: seen.append(("global pre", o))),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(("global post", o))),
    ]
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(("pre", o)))
    optimizer.register_step_post_hook(lambda o, *_: seen.append(("post", o)))
    try:
        train(model, optimizer, 1)
    finally:
        for handle in handles:
            handle.remove()
    assert sorted(name for name, _ in seen) == ["global post", "global pre", "post", "pre"]
    assert all(o is optimizer for _, o in seen)


def test_repr_names_the_base_and_the_options() -> None:
    text = repr(dwf(mlp(), BY_NAME["Adam"], depth=4))
    assert text.startswith("DWFOptimizer[Adam] (")
    assert "depth: 4" in text
    assert "penalty: 0.001" in text


# ---------------------------------------------------------------------------------------- wrap


@every_base
def test_wrap_is_the_constructor(base: Base) -> None:
    model, twin = mlp(), mlp()
    # AdamW decays by default, which wrapping would end with a warning.
    options = {"weight_decay": 0.0} if base.takes("weight_decay") else {}
    built = base.cls(model.named_parameters(), **base.options, **options)
    wrapped = DWFOptimizer.wrap(built, penalty=1e-3, depth=2)
    train(model, wrapped, 5)
    direct = dwf(twin, base, depth=2, **options)
    train(twin, direct, 5)
    assert identical(snapshot(model), snapshot(twin))
    assert wrapped.param_groups[0]["param_names"] == direct.param_groups[0]["param_names"]
    assert repr(wrapped).startswith(f"DWFOptimizer[{base.cls.__name__}]")


def test_wrap_keeps_groups() -> None:
    model = mlp()
    built = torch.optim.Adam(
        [
            {"params": model[0].parameters(), "lr": 0.02},
            {"params": model[2].parameters(), "betas": (0.5, 0.6)},
        ],
        lr=0.01,
    )
    wrapped = DWFOptimizer.wrap(built, penalty=1e-3)
    assert [group["lr"] for group in wrapped.param_groups] == [0.02, 0.01]
    assert [group["betas"] for group in wrapped.param_groups] == [(0.9, 0.999), (0.5, 0.6)]
    assert all(group["depth"] == 3 for group in wrapped.param_groups)
    assert "depth" not in built.param_groups[0]


def test_tied_weights_are_one_parameter() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    optimizer = DWFOptimizer(model.parameters(), lr=0.05, penalty=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    report = sparsify(model, optimizer, sparsity=0.5)
    assert [layer.total for layer in report.layers] == [9]


def test_empty_and_scalar_tensors() -> None:
    empty, scalar = Parameter(torch.ones(0, 3)), Parameter(torch.tensor(0.5))
    optimizer = DWFOptimizer([empty, scalar], lr=0.05, penalty=1e-3, momentum=0.9, min_ndim=0)
    for _ in range(3):
        step_with(optimizer, {empty: torch.ones(0, 3), scalar: torch.tensor(0.1)})
    assert scalar.item() < 0.5
    assert empty.shape == (0, 3)
