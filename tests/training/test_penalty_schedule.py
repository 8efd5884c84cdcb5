"""Penalty schedulers: the values, torch's habits, checkpoints, bad input."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from dwf_optim.penalty import ConstantPenalty, LambdaPenalty, PenaltyScheduler, PenaltyWarmup
from tests.training.common import network, optimizer_of, train

KINDS: dict[str, Callable[[Any], PenaltyScheduler]] = {
    "constant": ConstantPenalty,
    "lambda": lambda optimizer: LambdaPenalty(optimizer, lambda step: 1 / (1 + step)),
    "linear": lambda optimizer: PenaltyWarmup(optimizer, 8, start=0.25),
    "cosine": lambda optimizer: PenaltyWarmup(optimizer, 8, shape="cosine"),
}
EXPECTED: dict[str, Callable[[int], float]] = {
    "constant": lambda t: 1.0,
    "lambda": lambda t: 1 / (1 + t),
    "linear": lambda t: min(1.0, 0.25 + 0.75 * t / 8),
    "cosine": lambda t: 1.0 if t >= 8 else math.sin(math.pi * t / 16) ** 2,
}


def test_a_checkpoint_in_memory_stays_as_it_was_saved() -> None:
    optimizer = optimizer_of(network())
    scheduler = PenaltyWarmup(optimizer, 8)
    saved = scheduler.state_dict()
    before = copy.deepcopy(saved)
    optimizer.add_param_group({"params": list(network(1).parameters())})
    scheduler.step()
    assert saved == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_follows_the_formula_in_every_group(kind: str) -> None:
    first, second = network(0), network(1)
    optimizer = optimizer_of(first, penalty=2e-4)
    optimizer.add_param_group({"params": list(second.parameters()), "penalty": 5e-4})
    scheduler = KINDS[kind](optimizer)
    for step in range(12):
        expected = [2e-4 * EXPECTED[kind](step), 5e-4 * EXPECTED[kind](step)]
        assert scheduler.get_last_penalty() == pytest.approx(expected, rel=1e-12)
        assert [group["penalty"] for group in optimizer.param_groups] == scheduler.get_last_penalty()
        scheduler.step()


def test_a_warm_up_is_what_setting_the_penalty_by_hand_is() -> None:
    by_hand, scheduled = network(), network()
    first, second = optimizer_of(by_hand, penalty=1e-3), optimizer_of(scheduled, penalty=1e-3)
    scheduler = PenaltyWarmup(second, 20)
    first.param_groups[0]["penalty"] = 0.0
    step = iter(range(1, 100))

    def ramp(loss: float) -> None:
        first.param_groups[0]["penalty"] = 1e-3 * min(1.0, next(step) / 20)

    train(by_hand, first, 30, after_step=ramp)
    train(scheduled, second, 30, after_step=lambda loss: scheduler.step())
    for p, q in zip(by_hand.parameters(), scheduled.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(kind: str) -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    scheduler = KINDS[kind](optimizer)
    train(model, optimizer, 10, total=20, after_step=lambda loss: scheduler.step())
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    train(model, optimizer, 20, first=10, total=20, after_step=lambda loss: scheduler.step())

    other = network(7)
    resumed = optimizer_of(other, penalty=1e-3)
    again = KINDS[kind](resumed)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    train(other, resumed, 20, first=10, total=20, after_step=lambda loss: again.step())
    assert again.get_last_penalty() == scheduler.get_last_penalty()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_it_works_beside_a_learning_rate_scheduler() -> None:
    optimizer = optimizer_of(network(), penalty=1e-3)
    rates = LambdaLR(optimizer, lambda step: 0.5**step)
    penalties = PenaltyWarmup(optimizer, 4)
    for step in range(6):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.03 * 0.5**step)
        assert optimizer.param_groups[0]["penalty"] == pytest.approx(1e-3 * min(1.0, step / 4))
        optimizer.step()
        rates.step()
        penalties.step()


def test_a_group_that_is_added_later_joins_at_its_own_penalty() -> None:
    optimizer = optimizer_of(network(), penalty=1e-3)
    scheduler = PenaltyWarmup(optimizer, 4)
    scheduler.step()
    optimizer.add_param_group({"params": list(network(1).parameters()), "penalty": 4e-3})
    scheduler.step()
    assert scheduler.get_last_penalty() == pytest.approx([5e-4, 2e-3])


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda o: PenaltyWarmup(o, 0), ValueError, "steps must be at least 1, got 0"),
        (lambda o: PenaltyWarmup(o, 5, start=2.0), ValueError, "0 to 1, got 2.0"),
        (lambda o: PenaltyWarmup(o, 5, shape="square"), ValueError, "'cosine', 'linear'"),
        (lambda o: LambdaPenalty(o, lambda step: math.nan), ValueError, "step 0 must be finite"),
        (lambda o: LambdaPenalty(o, lambda step: -1.0), ValueError, ">= 0, got -1.0"),
        (lambda o: ConstantPenalty("sgd"), TypeError, "must be a DWFOptimizer, got str"),
        (
            lambda o: ConstantPenalty(torch.optim.SGD(network().parameters(), lr=0.1)),
            TypeError,
            "must be a DWFOptimizer, got SGD",
        ),
    ],
)
def test_bad_input_is_named(make: Callable[[Any], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(optimizer_of(network()))


def test_a_checkpoint_of_another_kind_or_size_is_refused() -> None:
    optimizer = optimizer_of(network())
    scheduler = PenaltyWarmup(optimizer, 5)
    with pytest.raises(ValueError, match="differs in"):
        scheduler.load_state_dict(ConstantPenalty(optimizer).state_dict())
    saved = scheduler.state_dict()
    saved["base_penalties"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="2 groups, the optimizer has 1"):
        scheduler.load_state_dict(saved)
