"""The budget of a run to come: against real runs, real schedulers and the sums that a run keeps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler

from dwf_optim import DWFOptimizer, PenaltyWarmup, TargetSparsity, decay_budget
from dwf_optim.learning_rate import FLOAT32_EPS, auto_lr_scale
from dwf_optim.penalty import ConstantPenalty, LambdaPenalty
from tests.helpers import step_with

STEPS = 40
LR, MOMENTUM, PENALTY = 0.05, 0.9, 1e-3


def build(*, lr: float = LR, penalty: float = PENALTY, **options: Any) -> DWFOptimizer:
    weight = Parameter(torch.full((3, 4), 0.05))
    return DWFOptimizer([weight], lr, penalty=penalty, momentum=MOMENTUM, **options)


def chained(optimizer: DWFOptimizer) -> lr_scheduler.ChainedScheduler:
    parts = (
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5),
        lr_scheduler.ExponentialLR(optimizer, 0.9),
    )
    return lr_scheduler.ChainedScheduler(parts, optimizer)


def warm_restarts(optimizer: DWFOptimizer) -> lr_scheduler.SequentialLR:
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5),
        lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, [5])


SCHEDULERS: dict[str, Callable[[DWFOptimizer], Any]] = {
    "none": lambda optimizer: None,
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.06, total_steps=STEPS),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.05, step_size_up=7),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "chained": chained,
    "sequential": warm_restarts,
    "penalty": lambda optimizer: PenaltyWarmup(optimizer, 20),
    "both": lambda optimizer: [
        lr_scheduler.StepLR(optimizer, 9),
        LambdaPenalty(optimizer, lambda step: 2 + math.sin(step)),
    ],
}


def as_list(schedulers: Any) -> list[Any]:
    if schedulers is None:
        return []
    return schedulers if isinstance(schedulers, list) else [schedulers]


def states(optimizer: DWFOptimizer, schedulers: list[Any]) -> list[Any]:
    return copy.deepcopy([optimizer.state_dict()["param_groups"], *(vars_of(s) for s in schedulers)])


def vars_of(scheduler: Any) -> dict[str, Any]:
    return {k: v for k, v in scheduler.state_dict().items() if k != "_schedulers"}


@pytest.mark.parametrize("before", [0, 11])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_what_is_forecast_is_what_the_run_sums_up(kind: str, before: int) -> None:
    """From the beginning and from the middle; nothing is changed by asking."""
    optimizer = build()
    [weight] = optimizer.factorized()
    schedulers = as_list(given := SCHEDULERS[kind](optimizer))

    def go_on(steps: int) -> None:
        for _ in range(steps):
            step_with(optimizer, {weight: torch.zeros_like(weight)})
            if optimizer.param_groups[0]["steps"] < STEPS:
                for scheduler in schedulers:
                    scheduler.step()

    go_on(before)
    asked = states(optimizer, schedulers)
    budget = optimizer.budget(given, STEPS - before)
    assert states(optimizer, schedulers) == asked
    go_on(STEPS - before)
    [kept] = optimizer.decay_budgets(FLOAT32_EPS)
    assert budget.steps == STEPS
    assert budget.groups[0].available == pytest.approx(kept.available, rel=1e-12)
    assert budget.groups[0].required == kept.required
    assert budget.reachable is kept.reachable is False


@pytest.mark.parametrize("before", [0, 11])
@pytest.mark.parametrize("structure", ["neuron", "input", "elementwise"])
def test_groups_of_weights_are_forecast_at_their_own_rate_and_start(structure: str, before: int) -> None:
    optimizer = build(structure=structure)
    [weight] = optimizer.factorized()
    for step in range(STEPS):
        if step == before:
            forecast = optimizer.budget(None, STEPS - before)
        step_with(optimizer, {weight: torch.zeros_like(weight)})
    [kept] = optimizer.decay_budgets(FLOAT32_EPS)
    assert forecast.groups[0].available == pytest.approx(kept.available, rel=1e-12)
    assert forecast.groups[0].required == kept.required


def test_penalties_by_size_have_no_one_budget() -> None:
    optimizer = build(structure="neuron", weigh_by_size=True)
    assert optimizer.budget(None, STEPS).groups == {}
    assert "weigh_by_size" in optimizer.budget(None, STEPS).advice()


def test_a_scheduler_by_epochs_steps_every_so_often() -> None:
    optimizer = build()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    budget = optimizer.budget([scheduler, ConstantPenalty(optimizer)], 6, every=2)
    rates = [LR, LR, LR / 2, LR / 2, LR / 4, LR / 4]
    options = {"lr_scale": auto_lr_scale(3, "sgd"), "momentum": MOMENTUM, "penalty": PENALTY}
    assert budget.groups[0].available == pytest.approx(decay_budget(rates, steps=6, **options).available)


@pytest.mark.parametrize("kind", ["none", "cosine", "penalty", "both"])
def test_the_advised_penalty_is_just_enough(kind: str) -> None:
    def asked(penalty: float) -> Any:
        optimizer = build(penalty=penalty)
        return optimizer.budget(SCHEDULERS[kind](optimizer), STEPS)

    short = asked(PENALTY)
    needed = short.groups[0].penalty_needed
    assert short.reached_at is None
    assert f"{needed:.2g}" in short.advice()
    enough = asked(needed * (1 + 1e-9))
    assert enough.reachable
    assert not asked(needed * (1 - 1e-9)).reachable
    # The step that it names is the first by which the sum is there.
    assert enough.reached_at is not None
    optimizer = build(penalty=needed * (1 + 1e-9))
    scheduler = SCHEDULERS[kind](optimizer)
    assert optimizer.budget(scheduler, enough.reached_at).reachable
    if enough.reached_at > 1:
        assert not optimizer.budget(scheduler, enough.reached_at - 1).reachable
    assert f"by step {enough.reached_at}" in enough.advice()


def test_a_real_weight_is_at_the_threshold_by_the_step_that_is_named() -> None:
    steps = 4000
    weight = Parameter(torch.full((1, 1), 0.05, dtype=torch.float64))
    optimizer = DWFOptimizer([weight], 0.05, penalty=8e-3)
    named = optimizer.budget(None, steps).reached_at
    assert named is not None
    reached = None
    for step in range(1, steps + 1):
        step_with(optimizer, {weight: torch.zeros_like(weight)})
        if reached is None and float(weight.detach()) < FLOAT32_EPS:
            reached = step
    # A factor goes as (1 - x / D)^t with x = 2 lambda eta, so the weight is a little ahead of exp(-x t):
    # by x / (2 D) of the way and the next order; and by up to a step, because steps are whole.
    x = 2 * 8e-3 * 0.05 * auto_lr_scale(3, "sgd")
    assert reached is not None
    assert named * (1 - x / 6 - x**2) - 1 <= reached <= named


def test_groups_are_told_apart_and_those_without_factors_left_out() -> None:
    first, second, bias = (Parameter(torch.ones(shape)) for shape in [(2, 2), (2, 3), (3,)])
    optimizer = DWFOptimizer(
        [
            {"params": [bias]},
            {"params": [first], "penalty": 1.0},
            {"params": [second], "depth": 1},
            {"params": [second.detach().clone().requires_grad_()]},
        ],
        0.1,
        penalty=1e-9,
    )
    budget = optimizer.budget(None, 100)
    assert sorted(budget.groups) == [1, 3]
    assert budget.groups[1].reachable
    assert not budget.groups[3].reachable
    assert budget.reachable is False
    assert budget.reached_at is None
    assert budget.advice().splitlines()[1].startswith("group 3: ")


def test_no_law_is_claimed_for_adam() -> None:
    optimizer = DWFOptimizer([Parameter(torch.ones(2, 2))], 1e-3, penalty=1e-4, base=torch.optim.Adam)
    budget = optimizer.budget(None, 100)
    assert budget.reachable is None
    assert budget.reached_at is None
    assert "TargetSparsity" in budget.advice()


def test_a_target_takes_the_budget_that_it_needs() -> None:
    optimizer = build()
    loop = TargetSparsity(optimizer, 0.5, 200)
    before = copy.deepcopy(loop.state_dict())
    budget = optimizer.budget([lr_scheduler.CosineAnnealingLR(optimizer, 200), loop], 200)
    assert loop.state_dict() == before
    assert budget.steered
    assert budget.reachable
    assert budget.reached_at == 150  # three quarters, the loop's default
    assert f"{budget.groups[0].penalty_needed:.2g}" in budget.advice()
    still = build(lr=0.0)
    assert still.budget(TargetSparsity(still, 0.5, 200), 200).reachable is False


def test_what_cannot_be_forecast_is_refused() -> None:
    optimizer, other = build(), build()
    with pytest.raises(ValueError, match="steps 0"):
        optimizer.budget(None, 0)
    with pytest.raises(ValueError, match="every 0"):
        optimizer.budget(None, 5, every=0)
    with pytest.raises(ValueError, match="ReduceLROnPlateau goes by what the run measures"):
        optimizer.budget(lr_scheduler.ReduceLROnPlateau(optimizer), 5)
    with pytest.raises(ValueError, match="StepLR belongs to another optimizer"):
        optimizer.budget(lr_scheduler.StepLR(other, 5), 5)
    with pytest.raises(TypeError, match="float has none"):
        optimizer.budget(0.1, 5)


# ----------------------------------------------------------------------------------- the warning


def first_step(penalty: float, total_steps: int | None, lr: float = LR) -> None:
    optimizer = build(penalty=penalty)
    rate = lr_scheduler.LambdaLR(optimizer, lambda step: lr / LR * min(1, (step + 1) / 100))
    scheduler = PenaltyWarmup(optimizer, 10, total_steps=total_steps)
    [weight] = optimizer.factorized()
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    rate.step()
    scheduler.step()


# Of the rate's highest value, whatever the warm-up now gives: all but the first steps at it.
JUST = math.log(0.05 / 1e-3) / 2 / (LR * auto_lr_scale(3, "sgd") / (1 - MOMENTUM) * 1000)


def test_a_run_without_hope_is_told_so_at_its_first_step() -> None:
    with pytest.warns(UserWarning, match=r"makes no zeros: in 1000 steps .* raise penalty to") as caught:
        first_step(0.9 * JUST, 1000)
    assert caught[0].filename == __file__
    # Warnings are errors here. There is hope where the rate may yet rise, or the end is not known:
    first_step(1.1 * JUST, 1000)
    first_step(0.9 * JUST, None)
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        first_step(JUST, 0)


def test_the_length_of_the_run_is_no_part_of_a_checkpoint() -> None:
    optimizer = build()
    long, plain = ConstantPenalty(optimizer, total_steps=10**6), ConstantPenalty(optimizer)
    plain.load_state_dict(long.state_dict())
    assert long.state_dict().keys() == plain.state_dict().keys()
