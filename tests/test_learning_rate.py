"""The factor-space rate and the decay budget: formulas, and real runs that obey them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import CosineAnnealingLR

from dwf_optim import DWFOptimizer, PenaltyWarmup, auto_lr_scale, decay_budget
from dwf_optim.learning_rate import FLOAT32_EPS, momentum_gain, required_decay
from tests.helpers import BASES, Base, dwf, every_base, identical, mlp, snapshot, step_with, train

# ----------------------------------------------------------------------------------- the scale


@pytest.mark.parametrize(
    ("kind", "published"), [("sgd", [1, 3.8, 5.1, 5.3]), ("adam", [1, 1.4, 1.3, 1.2])]
)
def test_published_scales(kind: str, published: list[float]) -> None:
    assert [round(auto_lr_scale(depth, kind), 1) for depth in (1, 2, 3, 4)] == published


@given(depth=st.integers(2, 8))
def test_scale_undoes_the_speed_at_the_reference_weight(depth: int) -> None:
    # Balanced factors r each; dw/dt = sum_d (prod_{e != d} f_e)^2 g = D r^{2(D-1)} g for SGD, and
    # D r^{D-1} times a unit step for Adam.
    root = 0.13 ** (1 / depth)
    assert auto_lr_scale(depth, "sgd") * depth * root ** (2 * depth - 2) == pytest.approx(1)
    assert auto_lr_scale(depth, "adam") * depth * root ** (depth - 1) == pytest.approx(1)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_reference_weight_moves_as_in_the_dense_run(kind: str, depth: int) -> None:
    """The point of the scale, on a real step; first order in lr."""
    base = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    lr = 1e-6
    weight = Parameter(torch.full((1, 1), 0.13, dtype=torch.float64))
    dense = Parameter(weight.detach().clone())
    with pytest.warns(UserWarning, match="even") if depth % 2 == 0 else nullcontext():
        optimizer = DWFOptimizer(
            [weight],
            lr,
            penalty=0,
            base=base,
            depth=depth,
            init="balanced",
            lr_scale=auto_lr_scale(depth, kind),
        )
    step_with(optimizer, {weight: torch.ones_like(weight)})
    step_with(base([dense], lr=lr), {dense: torch.ones_like(dense)})
    # A factor's relative move is scale * lr / 0.13 < 1e-3; the next order is that much smaller.
    assert float(weight.detach() - 0.13) == pytest.approx(float(dense.detach() - 0.13), rel=1e-3)


@given(depth=st.integers(2, 8), kind=st.sampled_from(["sgd", "adam"]), size=st.floats(0.0, 30.0))
def test_weights_as_inits_draw_them_leave_the_scale_alone(depth: int, kind: Any, size: float) -> None:
    # The widest of torch's own: nn.Linear with one input draws from +-1.
    usual, scale = auto_lr_scale(depth, kind), auto_lr_scale(depth, kind, size)
    assert auto_lr_scale(depth, kind, 1 / math.sqrt(3)) == usual
    assert scale <= usual
    assert auto_lr_scale(depth, kind, 2 * size) <= scale
    if size >= 1:
        # A weight of the group's typical size does not move faster than in the dense run.
        speed = depth * size ** ((2 if kind == "sgd" else 1) * (1 - 1 / depth))
        assert scale * speed <= 1


@pytest.mark.parametrize("base", [BASES[0], BASES[4]], ids=lambda base: base.name)
def test_auto_goes_by_the_size_of_the_groups_weights(base: Base) -> None:
    large = Parameter(2 * torch.ones(3, 4))
    other = Parameter(torch.tensor([1.0, -3.0]))
    scalar, idle = Parameter(torch.tensor(1e9)), Parameter(torch.full((2, 2), 1e9))
    broken = Parameter(torch.full((2, 2), math.nan))
    optimizer = DWFOptimizer(
        [scalar, broken, large, idle, other], 0.02, penalty=0, base=base.cls, min_ndim=0
    )
    with pytest.warns(UserWarning, match="NaN"):
        step_with(optimizer, {p: torch.ones_like(p) for p in (scalar, broken, large, other)})
    # By hand: 12 elements of 2, one of 1 and one of -3. A scalar is no sample, and idle has no part.
    rms = math.sqrt((12 * 4 + 1 + 9) / 14)
    scale = optimizer.param_groups[0]["resolved_lr_scale"]
    assert scale == pytest.approx(auto_lr_scale(3, base.kind, rms), rel=1e-12)


def test_a_penalty_keeps_its_decay_whatever_the_weights() -> None:
    """Less scale would leave weights short of zero, at a budget that said they would reach it."""
    weight = Parameter(5 * torch.ones(3, 4))
    optimizer = DWFOptimizer([weight], 0.02, penalty=1e-6)
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    assert optimizer.param_groups[0]["resolved_lr_scale"] == auto_lr_scale(3, "sgd")


def test_a_warm_up_from_no_penalty_keeps_the_scale_of_what_comes() -> None:
    weight = Parameter(5 * torch.ones(3, 4))
    optimizer = DWFOptimizer([weight], 0.02, penalty=1e-6)
    warmup = PenaltyWarmup(optimizer, 10)
    assert warmup.get_last_penalty() == [0.0]
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    assert optimizer.param_groups[0]["resolved_lr_scale"] == auto_lr_scale(3, "sgd")


@pytest.mark.parametrize("depth", [2, 3])
@every_base
def test_auto_knows_every_bases_kind(base: Base, depth: int) -> None:
    model, twin = mlp(), mlp()
    automatic = dwf(model, base, depth=depth)
    fixed = dwf(twin, base, depth=depth, lr_scale=auto_lr_scale(depth, base.kind))
    train(model, automatic, 3)
    train(twin, fixed, 3)
    assert identical(snapshot(model), snapshot(twin))


def test_scale_is_fixed_at_the_first_step_and_saved() -> None:
    model, twin = mlp(), mlp()
    optimizer = dwf(model, BASES[0])
    assert optimizer.param_groups[0]["resolved_lr_scale"] is None
    train(model, optimizer, 1)
    saved = optimizer.state_dict()
    assert saved["param_groups"][0]["resolved_lr_scale"] == auto_lr_scale(3, "sgd")
    # What is saved is what is used: later versions may compute another one.
    saved["param_groups"][0]["resolved_lr_scale"] = 2.0
    optimizer.load_state_dict(saved)
    train(twin, dwf(twin, BASES[0], lr_scale=auto_lr_scale(3, "sgd")), 1)
    other = dwf(twin, BASES[0], lr_scale=2.0)
    saved_other = other.state_dict()
    saved_other["state"] = saved["state"]
    other.load_state_dict(saved_other)
    train(model, optimizer, 2)
    train(twin, other, 2)
    assert identical(snapshot(model), snapshot(twin))


# ----------------------------------------------------------------------------------- the budget


def test_required_decay_is_method_mds() -> None:
    assert round(required_decay(), 1) == 6.5
    assert required_decay() == pytest.approx(math.log(0.05 / 2**-23) / 2)
    with pytest.raises(ValueError, match=r"threshold 0\.1, start 0\.05"):
        required_decay(threshold=0.1)


def test_budget_sums_constant_list_and_function_alike() -> None:
    options = {"penalty": 1e-3, "steps": 40, "lr_scale": 5.1, "momentum": 0.9}
    constant = decay_budget(0.1, **options)
    assert constant.available == pytest.approx(1e-3 * 0.1 * 40 * 5.1 * 10)
    assert decay_budget([0.1] * 50, **options) == constant
    assert decay_budget(lambda step: 0.1, **options) == constant
    assert constant.required == required_decay()
    assert not constant.reachable


def test_cosine_schedule_has_half_the_sum() -> None:
    steps, peak = 200, 0.3
    weight = Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=peak)
    schedule = CosineAnnealingLR(optimizer, T_max=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    budget = decay_budget(rates, penalty=1.0, steps=steps)
    # The cosines of t = 1 .. T-1 cancel, that of 0 is left: peak T / 2 + peak / 2.
    assert budget.available == pytest.approx(peak * steps / 2 + peak / 2)


def test_advice_would_do() -> None:
    options = {"lr_scale": 2.0, "momentum": 0.5}
    short = decay_budget(0.1, penalty=1e-3, steps=100, **options)
    assert not short.reachable
    more = decay_budget(0.1, penalty=short.penalty_needed * (1 + 1e-9), steps=100, **options)
    longer = decay_budget(0.1, penalty=1e-3, steps=int(short.steps_needed), **options)
    shorter = decay_budget(0.1, penalty=1e-3, steps=int(short.steps_needed) - 1, **options)
    assert more.reachable
    assert longer.reachable
    assert not shorter.reachable
    assert f"{short.penalty_needed:.2g}" in short.advice()
    assert f"{short.steps_needed:.0f} steps" in short.advice()
    assert "reach zero" in longer.advice()


def test_budget_without_rate_or_penalty_is_hopeless_not_an_error() -> None:
    assert decay_budget(0.0, penalty=1.0, steps=5).penalty_needed == math.inf
    assert decay_budget(0.1, penalty=0.0, steps=5).steps_needed == math.inf
    assert "inf" in decay_budget(0.1, penalty=0.0, steps=5).advice()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"penalty": -1.0}, "penalty -1"),
        ({"penalty": math.nan}, "penalty nan"),
        ({"momentum": 1.0}, "momentum 1"),
        ({"lr_scale": 0.0}, "lr_scale 0"),
        ({"lr": [0.1] * 9}, "9 rates for 10 steps"),
    ],
)
def test_budget_refuses(change: dict[str, object], message: str) -> None:
    options = {"lr": 0.1, "penalty": 1e-3, "steps": 10, **change}
    with pytest.raises(ValueError, match=message):
        decay_budget(options.pop("lr"), **options)


def test_momentum_gain() -> None:
    assert momentum_gain({}) == 1
    assert momentum_gain({"momentum": 0}) == 1
    assert momentum_gain({"momentum": 0.9}) == pytest.approx(10)
    assert momentum_gain({"momentum": 0.9, "dampening": 0.5}) == pytest.approx(5)


# ------------------------------------------------------------------------- the law, on real runs


def shrink(depth: int, penalty: float, steps: int, lr: float, **options: float) -> Tensor:
    """Train a weight that gets no gradient; returns ln(w_0 / w_T), which must not depend on w."""
    start = torch.tensor([[0.05, -1.0], [3.0, 1e-3]], dtype=torch.float64)
    weight = Parameter(start.clone())
    optimizer = DWFOptimizer([weight], lr, penalty=penalty, depth=depth, **options)
    for _ in range(steps):
        step_with(optimizer, {weight: torch.zeros_like(weight)})
    return (start / weight.detach()).log()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_weight_without_gradient_follows_the_law(depth: int) -> None:
    penalty, steps, lr = 0.01, 400, 0.1
    budget = decay_budget(lr, penalty=penalty, steps=steps, lr_scale=auto_lr_scale(depth, "sgd"))
    # Each factor is multiplied by 1 - x / D a step, x = 2 lambda eta, so ln w falls by
    # -D ln(1 - x / D) = x + x^2 / (2 D) + ..., the rest less than a geometric series.
    x = 2 * budget.available / steps
    second_order = steps * x**2 / (2 * depth) / (1 - x / depth)
    excess = shrink(depth, penalty, steps, lr) - 2 * budget.available
    assert bool((excess > 0).all())
    assert bool((excess <= second_order + 1e-12).all())
    assert second_order < 0.01 * 2 * budget.available  # the bound says something


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_momentum_multiplies_the_law(depth: int) -> None:
    penalty, steps, lr, momentum = 5e-4, 2000, 0.05, 0.9
    budget = decay_budget(
        lr,
        penalty=penalty,
        steps=steps,
        lr_scale=auto_lr_scale(depth, "sgd"),
        momentum=momentum,
    )
    # Heavy ball: a factor goes as A r^t with r^2 - (1 + mu - a) r + mu = 0, a = 2 lambda eta / D:
    # -ln r = a / (1 - mu) + a^2 (1 + mu) / (2 (1 - mu)^3) + ..., and the start costs
    # ln A = a mu / (1 - mu)^2; twice each for the higher orders.
    rest = 1 - momentum
    a = 2 * budget.available * rest / steps / depth
    bound = 2 * depth * (steps * a**2 * (1 + momentum) / (2 * rest**3) + a * momentum / rest**2)
    error = shrink(depth, penalty, steps, lr, momentum=momentum) - 2 * budget.available
    assert bool((error.abs() <= bound).all())
    assert bound < 0.05 * 2 * budget.available


@pytest.mark.parametrize(("share", "reaches"), [(1.02, True), (0.98, False)])
def test_budget_tells_whether_a_weight_falls_below_the_threshold(share: float, reaches: bool) -> None:
    steps, lr = 4000, 0.05
    unit = decay_budget(lr, penalty=1.0, steps=steps, lr_scale=auto_lr_scale(3, "sgd"))
    penalty = share * unit.required / unit.available
    weight = Parameter(torch.full((1, 1), 0.05, dtype=torch.float64))
    optimizer = DWFOptimizer([weight], lr, penalty=penalty)
    for _ in range(steps):
        step_with(optimizer, {weight: torch.zeros_like(weight)})
    assert (float(weight.detach()) < FLOAT32_EPS) == reaches
    [kept] = optimizer.decay_budgets(FLOAT32_EPS)
    assert kept.reachable == reaches
    assert kept.available == pytest.approx(share * unit.required)
