"""Every LR scheduler of torch drives the factors as it would drive the plain base."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

from dwf_optim import DWFOptimizer
from tests.contract.common import BY_NAME, PENALTY, build, randn, through_disk
from tests.helpers import Base, identical
from tests.reference.autograd import ExplicitFactors

STEPS = 14
# As in test_equivalence: some dozens of roundings of 1.1e-16 a step, amplified by a small factor.
TOLERANCE = 1e-12

L = lr_scheduler
SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "LambdaLR": lambda o: L.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: L.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: L.StepLR(o, step_size=3, gamma=0.5),
    "MultiStepLR": lambda o: L.MultiStepLR(o, milestones=[2, 5, 9], gamma=0.5),
    "ConstantLR": lambda o: L.ConstantLR(o, factor=0.3, total_iters=4),
    "LinearLR": lambda o: L.LinearLR(o, start_factor=0.1, total_iters=8),
    "ExponentialLR": lambda o: L.ExponentialLR(o, gamma=0.9),
    "PolynomialLR": lambda o: L.PolynomialLR(o, total_iters=20, power=2.0),
    "CosineAnnealingLR": lambda o: L.CosineAnnealingLR(o, T_max=20, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lambda o: L.CosineAnnealingWarmRestarts(o, T_0=4, eta_min=1e-4),
    "CyclicLR": lambda o: L.CyclicLR(o, base_lr=1e-3, max_lr=2e-2, step_size_up=3),
    "OneCycleLR": lambda o: L.OneCycleLR(o, max_lr=2e-2, total_steps=STEPS + 1),
    "ReduceLROnPlateau": lambda o: L.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "SequentialLR": lambda o: L.SequentialLR(
        o, [L.ConstantLR(o, factor=0.1, total_iters=4), L.ExponentialLR(o, gamma=0.8)], milestones=[4]
    ),
    "ChainedScheduler": lambda o: L.ChainedScheduler(
        [L.ConstantLR(o, factor=0.5, total_iters=4), L.ExponentialLR(o, gamma=0.9)], optimizer=o
    ),
    "SWALR": lambda o: SWALR(o, swa_lr=1e-3, anneal_epochs=6),
}

every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)
both_kinds = pytest.mark.parametrize(
    "base", [BY_NAME["SGD-momentum"], BY_NAME["Adam"]], ids=lambda base: base.name
)


class Run(NamedTuple):
    weights: list[Parameter]
    optimizer: DWFOptimizer
    schedule: LRScheduler


def two_tensors() -> list[Parameter]:
    return [Parameter(0.6 * randn(6, 5, seed=i, dtype=torch.float64)) for i in (1, 2)]


def loss(weights: Sequence[Tensor]) -> Tensor:
    first, second = weights
    inputs, targets = randn(9, 5, seed=3, dtype=first.dtype), randn(9, 5, seed=4, dtype=first.dtype)
    return ((torch.tanh(inputs @ first.t()) @ second - targets) ** 2).mean()


def start(name: str, base: Base, **options: Any) -> Run:
    weights = two_tensors()
    optimizer = build(weights, base, **options)
    return Run(weights, optimizer, SCHEDULERS[name](optimizer))


def advance(schedule: LRScheduler, step: int) -> None:
    if isinstance(schedule, L.ReduceLROnPlateau):
        schedule.step(float(max(5 - step, 3)))  # a metric that stops falling
    else:
        schedule.step()


def go(run: Run, begin: int, end: int) -> list[float]:
    """Train, and return the rates used."""
    rates = []
    for step in range(begin, end):
        run.optimizer.zero_grad()
        loss(run.weights).backward()
        rates.append(float(run.optimizer.param_groups[0]["lr"]))
        run.optimizer.step()
        advance(run.schedule, step)
    return rates


def test_the_table_holds_every_scheduler() -> None:
    classes = {name for name in L.__all__ if issubclass(getattr(L, name), LRScheduler)}
    assert classes - {"LRScheduler"} | {"SWALR"} == SCHEDULERS.keys()


@pytest.mark.parametrize("depth", [2, 3])
@both_kinds
@every_scheduler
def test_scheduled_run_is_explicit_factors_under_the_same_schedule(
    name: str, base: Base, depth: int
) -> None:
    weights, optimizer, schedule = start(name, base, depth=depth)
    factors = [optimizer.factors(w) for w in weights]
    truth = ExplicitFactors(factors, loss, PENALTY, base.cls, **base.options)
    other = SCHEDULERS[name](truth.optimizer)
    (group,), (expected,) = optimizer.param_groups, truth.optimizer.param_groups
    rates = set()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()
        truth.step()
        # Schedulers write momentum, betas and keys of their own too: all the same, to the bit.
        assert {k: group[k] for k in expected if k != "params"} == {
            k: v for k, v in expected.items() if k != "params"
        }
        for weight, value in zip(weights, truth.weights(), strict=True):
            assert (weight - value).norm() <= TOLERANCE * value.norm(), step
        rates.add(group["lr"])
        advance(schedule, step)
        advance(other, step)
        assert schedule.get_last_lr() == other.get_last_lr()
    assert len(rates) > 1


@both_kinds
@every_scheduler
def test_resumed_schedule_goes_on_to_the_bit(name: str, base: Base) -> None:
    whole = start(name, base)
    rates = go(whole, 0, STEPS)
    half = start(name, base)
    go(half, 0, 5)
    saved = through_disk(half.optimizer.state_dict())
    schedule_state = copy.deepcopy(half.schedule.state_dict())
    weights = two_tensors()
    with torch.no_grad():
        for weight, value in zip(weights, half.weights, strict=True):
            weight.copy_(value)
    optimizer = build(weights, base)
    schedule = SCHEDULERS[name](optimizer)
    optimizer.load_state_dict(saved)
    schedule.load_state_dict(schedule_state)
    assert go(Run(weights, optimizer, schedule), 5, STEPS) == rates[5:]
    assert identical(weights, whole.weights)


@both_kinds
@every_scheduler
def test_rate_as_a_tensor_under_a_schedule(name: str, base: Base) -> None:
    # Float64 rates: only where the rate is rounded differs, which the tolerance is for.
    rate = torch.tensor(base.options["lr"], dtype=torch.float64)
    tensor, number = start(name, base, lr=rate, foreach=False), start(name, base, foreach=False)
    rates, expected = go(tensor, 0, STEPS), go(number, 0, STEPS)
    assert rates == pytest.approx(expected, rel=1e-14)
    # Schedulers write the user's tensor in place: it must still be what the optimizer reads.
    assert tensor.optimizer.param_groups[0]["lr"] is rate
    for weight, value in zip(tensor.weights, number.weights, strict=True):
        assert (weight - value).norm() <= TOLERANCE * value.norm()


def test_groups_have_schedules_of_their_own() -> None:
    base = BY_NAME["SGD-momentum"]
    together, apart = two_tensors(), two_tensors()
    gammas = [0.9, 0.7]
    optimizer = build([{"params": [w]} for w in together], base)
    schedule = L.LambdaLR(optimizer, [lambda t, g=gamma: g**t for gamma in gammas])
    runs = []
    for weight, gamma in zip(apart, gammas, strict=True):
        own = build([weight], base)
        runs.append((own, L.ExponentialLR(own, gamma)))
    # A second optimizer starts its draws anew, so it is given the first one's factors.
    for (own, _), weight, twin in zip(runs, apart, together, strict=True):
        for mine, theirs in zip(own.factors(weight), optimizer.factors(twin), strict=True):
            mine.copy_(theirs)
    for _ in range(6):
        for weights in (together, apart):
            for weight in weights:
                weight.grad = None
            loss(weights).backward()
        optimizer.step()
        schedule.step()
        for own, its_schedule in runs:
            own.step()
            its_schedule.step()
        for weight, value in zip(together, apart, strict=True):
            assert (weight - value).norm() <= TOLERANCE * value.norm()


def test_a_copied_run_keeps_its_schedule() -> None:
    """Schedulers replace the optimizer's `step` by a wrapper, which a copy must not share."""
    whole = start("OneCycleLR", BY_NAME["SGD-momentum"])
    go(whole, 0, 4)
    weights, optimizer, schedule = copy.deepcopy((whole.weights, whole.optimizer, whole.schedule))
    assert schedule.optimizer is optimizer
    before = [w.detach().clone() for w in whole.weights]
    rates = go(Run(weights, optimizer, schedule), 4, STEPS)
    assert identical(whole.weights, before)
    assert go(whole, 4, STEPS) == rates
    assert identical(whole.weights, weights)
