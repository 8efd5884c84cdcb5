"""`LayerGuard` keeps a penalty that is far too high from emptying layers."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

from dwf_optim import DWFOptimizer, LayerGuard, PenaltyWarmup, TargetSparsity, param_groups
from tests.training.common import network, optimizer_of, train

TOO_HIGH = 0.03


def per_layer(model: torch.nn.Module, penalty: float = TOO_HIGH) -> DWFOptimizer:
    groups = param_groups(model, penalty=penalty, per_layer=True)
    return DWFOptimizer(groups, lr=0.03, momentum=0.9)


def alive(p: torch.Tensor) -> int:
    return int((p.detach().abs() > 1e-3).sum())


def test_layers_that_would_empty_do_not(caplog: pytest.LogCaptureFixture) -> None:
    unguarded, guarded = network(), network()
    train(unguarded, per_layer(unguarded), 300)
    assert [alive(unguarded[i].weight) for i in (0, 2)] == [0, 0]
    optimizer = per_layer(guarded)
    guard = LayerGuard(optimizer, min_density=0.05, every=1)
    with caplog.at_level(logging.WARNING):
        train(guarded, optimizer, 300, after_step=lambda loss: guard.step())
    assert set(guard.held) == {"0.weight", "2.weight"}
    assert all(0 < step <= 300 for step in guard.held.values())
    for name, p in guarded.named_parameters():
        if name in guard.held:
            assert f"{name} is down to its floor at step {guard.held[name]}" in caplog.text
            # With momentum 0.9 the decay of 2 * 0.03 * 5.1 * 0.03 a step goes on for nine more in sum,
            # which is a factor of 0.92; from 0.01 that is far from 0.001, unless the loss wants it.
            assert alive(p) >= 0.05 * p.numel()
    assert [group["penalty"] for group in optimizer.param_groups] == [0.0, 0.0, 0.0]


def test_only_the_layer_that_is_down_is_held_whatever_a_scheduler_sets() -> None:
    model = network()
    optimizer = per_layer(model, penalty=1e-3)
    warmup = PenaltyWarmup(optimizer, 5)
    guard = LayerGuard(optimizer, min_nonzero_per_unit={"2.weight": 1}, every=2)
    train(model, optimizer, 2, after_step=lambda loss: (warmup.step(), guard.step()))
    assert guard.held == {}
    with torch.no_grad():
        model[2].weight[3] = 0  # one class has nothing left
    train(model, optimizer, 6, first=2, after_step=lambda loss: (warmup.step(), guard.step()))
    assert guard.held == {"2.weight": 4}
    assert [group["penalty"] for group in optimizer.param_groups] == [1e-3, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_a_layer_without_weights_is_nothing_to_guard(shape: tuple[int, int]) -> None:
    empty = torch.nn.Parameter(torch.zeros(shape))
    groups = [{"params": [torch.nn.Parameter(torch.ones(3, 3))]}, {"params": [empty]}]
    optimizer = DWFOptimizer(groups, lr=0.1, penalty=1e-3)
    guard = LayerGuard(optimizer, min_nonzero_per_unit=1, min_density=0.1, every=1)
    guard.step()
    assert guard.held == {}
    assert [group["penalty"] for group in optimizer.param_groups] == [1e-3, 1e-3]


def test_a_group_of_several_layers_is_held_as_one() -> None:
    model = network()
    optimizer = optimizer_of(model)
    guard = LayerGuard(optimizer, min_density={"parameter number 0": 1.0}, every=1)
    guard.step()
    assert guard.held == {"parameter number 0": 1}
    assert optimizer.param_groups[0]["penalty"] == 0


def test_a_loop_to_a_target_goes_on_with_the_other_layers() -> None:
    model = network()
    optimizer = per_layer(model, penalty=1e-4)
    target = TargetSparsity(optimizer, 0.8, 400)
    guard = LayerGuard(optimizer, min_density={"2.weight": 0.3})

    left = []

    def steer(loss: float) -> None:
        target.step()
        guard.step()
        if guard.held:
            left.append(alive(model[2].weight))

    train(model, optimizer, 400, after_step=steer)
    assert list(guard.held) == ["2.weight"]
    # From when it is held nothing of it is removed; the guard looks seldomer than the loop.
    assert set(left) == {left[0]}
    assert 0 < left[0] <= 300
    assert target.current_sparsity() == pytest.approx(0.8, abs=1e-4)


def test_a_resumed_guard_is_the_same() -> None:
    model = network()
    optimizer = per_layer(model)
    guard = LayerGuard(optimizer, min_density=0.05)
    train(model, optimizer, 100, total=300, after_step=lambda loss: guard.step())
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), guard.state_dict()))
    train(model, optimizer, 300, first=100, after_step=lambda loss: guard.step())
    other = network(1)
    again = per_layer(other)
    resumed = LayerGuard(again, min_density=0.05)
    for each, state in zip((other, again, resumed), saved, strict=True):
        each.load_state_dict(state)
    train(other, again, 300, first=100, after_step=lambda loss: resumed.step())
    assert guard.held
    assert resumed.state_dict() == guard.state_dict()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to guard: give min_density"),
        ({"min_density": 0.1, "every": 0}, "every must be at least 1"),
        ({"min_density": 0.1, "threshold": -1.0}, "threshold must be finite"),
        ({"min_density": {"x": 0.1}}, r"names \['x'\]"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerGuard(optimizer_of(network()), **options)


def test_checkpoints_of_something_else_are_refused() -> None:
    guard = LayerGuard(optimizer_of(network()), min_density=0.1)
    with pytest.raises(ValueError, match="no checkpoint of a LayerGuard"):
        guard.load_state_dict({"step": 1})
    with pytest.raises(ValueError, match=r"holds groups \[3\]"):
        guard.load_state_dict({"last_step": 1, "held": {}, "groups": [3]})
