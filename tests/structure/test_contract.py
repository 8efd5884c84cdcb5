"""Groups that share gates keep the promises of tests/contract: copies, files, closures, AMP, writes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import lr_scheduler

from dwf_optim import DWFOptimizer, Monitor, PenaltyWarmup
from tests.contract.common import through_disk
from tests.helpers import BASES, Base, assert_same_state, every_base, identical, step_with
from tests.reference.gates import CASES
from tests.structure.common import PENALTY, draw, groups, loss, make, parameters, train

BY_NAME = {base.name: base for base in BASES}
MOMENTUM = BY_NAME["SGD-momentum"]
ADAM = BY_NAME["Adam"]


def values(params: list[Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


# ------------------------------------------------------------------------------------ checkpoints


@every_base
def test_a_resumed_run_goes_on_to_the_bit(base: Base) -> None:
    params, fresh = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizer = make(params, base)
    train(params, optimizer, 3)
    other = make(fresh, base)
    with torch.no_grad():
        for p, q in zip(params, fresh, strict=True):
            q.copy_(p)
    other.load_state_dict(through_disk(optimizer.state_dict(), map_location="cpu"))
    assert_same_state(optimizer, other)
    train(params, optimizer, 3)
    train(fresh, other, 3)
    assert identical(values(params), values(fresh))
    assert_same_state(optimizer, other)


@given(before=st.integers(0, 4), after=st.integers(1, 3), name=st.sampled_from(["SGD-momentum", "Adam"]))
def test_resuming_at_any_step(before: int, after: int, name: str) -> None:
    params, fresh = parameters(), parameters()
    optimizer, other = (make(some, BY_NAME[name]) for some in (params, fresh))
    train(params, optimizer, before)
    with torch.no_grad():
        for p, q in zip(params, fresh, strict=True):
            q.copy_(p)
    other.load_state_dict(through_disk(optimizer.state_dict()))
    train(params, optimizer, after)
    train(fresh, other, after)
    assert identical(values(params), values(fresh))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("carry", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_to_the_bit(carry: Any, dtype: torch.dtype) -> None:
    params = parameters(dtype=dtype)
    optimizer = make(params, MOMENTUM)
    train(params, optimizer, 2)
    copied, other = carry((params, optimizer))
    train(params, optimizer, 2)
    train(copied, other, 2)
    assert identical(values(params), values(copied))
    assert_same_state(optimizer, other)


def test_state_holds_plain_tensors_under_fixed_keys() -> None:
    params = parameters()
    optimizer = make(params, ADAM, depth=3)
    train(params, optimizer, 1)
    for case, p in zip(CASES, params, strict=True):
        state = optimizer.state[p]
        moments = {"step", "exp_avg", "exp_avg_sq"}
        parts = ("omega", "gate.0", "gate.1")
        assert state.keys() == {*parts, *(f"base.{part}.{key}" for part in parts for key in moments)}
        assert state["omega"].shape == p.shape == state["base.omega.exp_avg"].shape
        for d in range(2):
            assert state[f"gate.{d}"].numel() == case.groups
            assert state[f"base.gate.{d}.exp_avg"].shape == state[f"gate.{d}"].shape


@pytest.mark.parametrize(("saved", "built"), [("neuron", None), (None, "neuron"), ("neuron", "input")])
def test_a_checkpoint_of_another_structure_is_refused(saved: Any, built: Any) -> None:
    p, q = Parameter(draw((4, 3), 1)), Parameter(draw((4, 3), 1))
    optimizer = DWFOptimizer([p], lr=0.1, penalty=0.1, structure=saved)
    step_with(optimizer, {p: draw((4, 3), 2)})
    other = DWFOptimizer([q], lr=0.1, penalty=0.1, structure=built)
    before = other.state_dict()
    with pytest.raises(ValueError, match=rf"structure={saved!r}, this optimizer structure={built!r}"):
        other.load_state_dict(optimizer.state_dict())
    assert other.state_dict() == before


# ------------------------------------------------------------------------- groups, rates, closures


def test_groups_can_be_added_in_mid_training() -> None:
    params, alone = parameters(), parameters()
    optimizer = DWFOptimizer(
        groups(params)[:1],
        penalty=PENALTY,
        flush=None,
        min_ndim=1,
        base=MOMENTUM.cls,
        **MOMENTUM.options,
    )
    train(params[:1], optimizer, 2)
    for group in groups(params)[1:]:
        optimizer.add_param_group(group)
    train(params, optimizer, 2)
    train(alone[:1], separate := make(alone, MOMENTUM), 2)
    train(alone, separate, 2)
    assert identical(values(params), values(alone))


def test_at_rate_0_nothing_is_written() -> None:
    params = parameters()
    optimizer = make(params, ADAM)
    train(params, optimizer, 2)
    before = values(params)
    factors = [f.clone() for p in params for f in optimizer.factors(p)]
    versions = [p._version for p in params]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(params, optimizer, 1)
    assert identical(values(params), before)
    assert [p._version for p in params] == versions
    assert identical([f for p in params for f in optimizer.factors(p)], factors)


def test_without_gradient_nothing_happens() -> None:
    params = parameters()
    optimizer = make(params, MOMENTUM)
    before = values(params)
    step_with(optimizer, {params[1]: draw(params[1].shape, 3)})
    changed = [not torch.equal(p, b) for p, b in zip(params, before, strict=True)]
    assert changed == [index == 1 for index in range(len(params))]
    assert list(optimizer.state) == [params[1]]


def test_closures_and_schedulers() -> None:
    params, others = parameters(), parameters()
    calls = []
    runs = []
    for some in (params, others):
        optimizer = make(some, MOMENTUM)
        schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=8)
        runs.append((optimizer, schedule, PenaltyWarmup(optimizer, steps=4)))
    (optimizer, schedule, warmup), (other, *others_schedules) = runs

    def closure() -> float:
        calls.append(1)
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        return value.item()

    for _ in range(6):
        assert optimizer.step(closure) > 0
        train(others, other, 1)
        for each in (schedule, warmup, *others_schedules):
            each.step()
    assert len(calls) == 6
    assert identical(values(params), values(others))


def test_gradient_scaling_gives_the_same_run_and_skips() -> None:
    params, others = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizer, plain = make(params, MOMENTUM), make(others, MOMENTUM)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss(params)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(others, plain, 3)
    assert identical(values(params), values(others))
    before, state = values(params), copy.deepcopy(optimizer.state_dict())
    for p in params:
        p.grad = torch.full_like(p, torch.inf)
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    assert identical(values(params), before)
    assert_same_state(optimizer, _Holder(state))


class _Holder:
    """A state_dict that was taken before."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state_dict = lambda: state


def test_moving_the_model_to_another_dtype_takes_the_gates_along() -> None:
    model = nn.Linear(4, 6, bias=False)
    optimizer = DWFOptimizer(
        model.parameters(), lr=0.02, momentum=0.9, penalty=PENALTY, structure="neuron"
    )
    step_with(optimizer, {model.weight: draw((6, 4), 1, torch.float32)})
    model.double()
    step_with(optimizer, {model.weight: draw((6, 4), 2)})
    tensors = [v for v in optimizer.state[model.weight].values() if isinstance(v, Tensor) and v.ndim]
    assert all(value.dtype == torch.float64 for value in tensors)


# ------------------------------------------------------------------------------ writes from outside


@pytest.mark.parametrize("silent", [False, True])
def test_weights_written_from_outside_are_followed(silent: bool) -> None:
    params = parameters()
    optimizer = make(params, MOMENTUM, penalty=0.0)
    train(params, optimizer, 3)
    gates = [[g.clone() for g in optimizer.factors(p)[1:]] for p in params]
    with torch.no_grad():
        for p in params:
            target = p.data if silent else p
            target.mul_(0.125)
    written = values(params)
    for case, p, before, old in zip(CASES, params, written, gates, strict=True):
        omega, *now = optimizer.factors(p)
        assert (p - before).abs().max() == 0
        product = omega
        for gate in now:
            product = product * case.spread(gate.flatten())
        torch.testing.assert_close(product, before, rtol=1e-15 * 8, atol=0)
        # Gates share in the change, by the D-th root of it.
        assert all(torch.allclose(a, b / 2, rtol=1e-12) for a, b in zip(now, old, strict=True))
    train(params, optimizer, 1)
    assert all(bool(p.isfinite().all()) for p in params)


def test_groups_zeroed_from_outside_stay_zero_and_single_weights_do_not() -> None:
    p = Parameter(draw((4, 3), 1))
    optimizer = DWFOptimizer([p], lr=0.02, momentum=0.9, penalty=PENALTY, structure="neuron")
    step_with(optimizer, {p: draw((4, 3), 2)})
    with torch.no_grad():
        p[1] = 0
        p[2, 0] = 0
    for seed in range(3, 6):
        step_with(optimizer, {p: draw((4, 3), seed)})
    assert not bool(p[1].any())
    assert bool(p[[0, 2, 3]].all())
    state = {k: v for k, v in optimizer.state[p].items() if isinstance(v, Tensor) and v.ndim}
    assert all(not bool(value[1].any()) for value in state.values())


def test_a_group_revived_from_outside_starts_anew() -> None:
    p = Parameter(draw((4, 3), 1))
    optimizer = DWFOptimizer([p], lr=0.02, momentum=0.9, penalty=PENALTY, structure="neuron")
    step_with(optimizer, {p: draw((4, 3), 2)})
    optimizer.zero_(p, torch.tensor([False, True, False, False])[:, None].expand(4, 3))
    assert not bool(p[1].any())
    with torch.no_grad():
        p[1] = 0.5
    omega, *gates = optimizer.factors(p)
    assert torch.equal(omega[1], p[1])
    assert all(float(gate[1]) == 1 for gate in gates)


def test_groups_that_are_zero_at_the_start_stay_zero_and_a_zero_tensor_trains() -> None:
    pruned, blank = Parameter(draw((4, 3), 1)), Parameter(torch.zeros(4, 3, dtype=torch.float64))
    with torch.no_grad():
        pruned[1] = 0
    optimizer = DWFOptimizer([pruned, blank], lr=0.05, penalty=PENALTY, structure="neuron")
    for seed in range(3):
        step_with(optimizer, {pruned: draw((4, 3), seed), blank: draw((4, 3), 9 + seed)})
    assert torch.equal(pruned.any(1), torch.tensor([True, False, True, True]))
    assert bool(blank.all())


def test_a_mask_that_leaves_a_part_of_a_group_is_refused() -> None:
    p = Parameter(draw((4, 3), 1))
    optimizer = DWFOptimizer([p], lr=0.05, penalty=PENALTY, structure="neuron")
    before = p.detach().clone()
    mask = torch.zeros(4, 3, dtype=torch.bool)
    mask[0, 1] = mask[2] = True
    with pytest.raises(ValueError, match=r"covers 1 groups of structure='neuron' in part"):
        optimizer.zero_(p, mask)
    assert torch.equal(p, before)


# ------------------------------------------------------------------------------------ monitor


def test_the_monitor_sees_groups() -> None:
    params = parameters()
    optimizer = make(params, MOMENTUM)
    monitor = Monitor(optimizer, every=1, thresholds=(0.9,))
    train(params, optimizer, 3)
    record = monitor.records[-1]
    layers = list(record.layers.values())
    for case, p, layer in zip(CASES, params, layers, strict=True):
        norms = case.norms(p.detach()).tolist()
        assert layer.zeros == (case.size * sum(norm <= 0.9 for norm in norms),)
        expected = sum(norm ** (2 / 3) for norm in norms)
        # The record is of float32.
        assert abs(layer.quasi_norm - expected) <= 1e-5 * expected
        assert layer.misalignment >= 0
    assert any(layer.zeros[0] for layer in layers)


def test_random_streams_are_untouched() -> None:
    before = torch.get_rng_state()
    params = parameters()
    train(params, make(params, MOMENTUM), 1)
    assert torch.equal(torch.get_rng_state(), before)
