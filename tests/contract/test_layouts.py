"""Tensors of unusual shape and layout: empty, 0-d, with gaps, channels last."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from tests.contract.common import BY_NAME, Shadow, build, randn, rounding, through_disk
from tests.helpers import BASES, Base, assert_same_state, every_base, identical, step_with

STEPS = 5
IMPLEMENTATIONS = [
    (name, flags)
    for name in ("SGD-momentum", "Adam", "AdamW")
    for flags in ({"foreach": True}, {"foreach": False}, {"fused": True})
]
implementations = pytest.mark.parametrize(("name", "flags"), IMPLEMENTATIONS, ids=str)


def odd_tensors() -> list[Parameter]:
    """Empty ones first, last and between; 0-d; a slice with gaps; a transpose; channels last."""
    return [
        Parameter(torch.empty(0, 3)),
        Parameter(randn(10, 5, 2, seed=1)[..., 0]),
        Parameter(torch.tensor(0.7)),
        Parameter(torch.empty(0)),
        Parameter(randn(3, 4, seed=2).t()),
        Parameter(randn(2, 3, 4, 4, seed=3).contiguous(memory_format=torch.channels_last)),
        Parameter(torch.empty(2, 0, 2)),
    ]


def draw(params: list[Parameter], step: int) -> dict[Tensor, Tensor]:
    return {p: randn(*p.shape, seed=100 * step + i) for i, p in enumerate(params)}


def check_odd(base: Base, depth: int, **flags: bool) -> None:
    params = odd_tensors()
    strides = [p.stride() for p in params]
    optimizer = build(params, base, depth=depth, min_ndim=0, **flags)
    full = [p for p in params if p.numel()]
    shadow = Shadow(optimizer, full, base, **flags)
    for step in range(STEPS):
        grads = draw(params, step)
        shadow.step([grads[p] for p in full])
        step_with(optimizer, grads)
    shadow.check(rounding(torch.float32, STEPS))
    assert [p.stride() for p in params] == strides
    for p in params:
        for factor in optimizer.factors(p):
            assert factor.shape == p.shape
            assert torch.equal(factor, factor.clone())


@pytest.mark.parametrize("depth", [2, 3])
@every_base
def test_odd_tensors_are_explicit_factors(base: Base, depth: int) -> None:
    check_odd(base, depth)


@implementations
def test_odd_tensors_with_every_implementation(name: str, flags: dict[str, bool]) -> None:
    check_odd(BY_NAME[name], 3, **flags)


@implementations
def test_odd_tensors_at_depth_one_are_the_bases(name: str, flags: dict[str, bool]) -> None:
    base = BY_NAME[name]
    # A fused base refuses or misreads tensors with gaps by itself; that is not ours to test.
    ours, plain = ([p for p in odd_tensors() if p.is_contiguous()] for _ in range(2))
    optimizer = build(ours, base, depth=1, penalty=0.0, **flags)
    reference = base.cls(plain, **base.options, **flags)
    for step in range(STEPS):
        step_with(optimizer, draw(ours, step))
        step_with(reference, draw(plain, step))
    assert identical(ours, plain)


@pytest.mark.parametrize("min_ndim", [0, 2])
@every_base
def test_odd_tensors_resume_to_the_bit(base: Base, min_ndim: int) -> None:
    params = odd_tensors()
    optimizer = build(params, base, min_ndim=min_ndim)
    for step in range(3):
        step_with(optimizer, draw(params, step))
    again = copy.deepcopy(params)
    resumed = build(again, base, min_ndim=min_ndim)
    resumed.load_state_dict(through_disk(optimizer.state_dict()))
    assert_same_state(optimizer, resumed)
    for step in range(3, 6):
        step_with(optimizer, draw(params, step))
        step_with(resumed, draw(again, step))
    assert identical(params, again)


def conv_model() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 2))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(0.3 * randn(*p.shape, seed=i))
    return model


@pytest.mark.parametrize("when", [0, 3])
@every_base
def test_channels_last_before_or_in_training_is_the_same_run(base: Base, when: int) -> None:
    model, twin = conv_model().double(), conv_model().double()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    image = randn(2, 3, 8, 8, seed=9, dtype=torch.float64)
    for step in range(STEPS):
        if step == when:
            model.to(memory_format=torch.channels_last)
            image = image.contiguous(memory_format=torch.channels_last)
        for network, each in ((model, optimizer), (twin, plain)):
            network.zero_grad()
            (network(image) - 0.5).square().mean().backward()
            each.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        # Convolutions sum in another order; bases that divide by |g| amplify that.
        assert (p - q).norm() <= 1e-9 * q.norm()
    assert all(
        p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.ndim == 4
    )


def test_factors_and_state_share_the_weights_layout() -> None:
    model = conv_model().to(memory_format=torch.channels_last)
    optimizer = build(model.parameters(), BY_NAME["Adam"])
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    for p in optimizer.factorized():
        shaped = [v for v in optimizer.state[p].values() if v.shape == p.shape]
        assert len(shaped) == 3 * 3  # three factors, each with two moments
        assert all(v.stride() == p.stride() for v in shaped)


# ------------------------------------------------------------------------------- the meta device


# ASGD reads its own numbers from the device, with torch's parameters too.
@pytest.mark.parametrize("base", [b for b in BASES if b.name != "ASGD"], ids=lambda base: base.name)
def test_a_model_without_memory_is_stepped_for_its_shapes(base: Base) -> None:
    """As a dry run that counts memory does: on the meta device, state is made and nothing computed."""
    weight = Parameter(torch.empty(4, 3, device="meta"))
    optimizer = build([weight], base, depth=3)
    for _ in range(20):
        step_with(optimizer, {weight: torch.empty_like(weight)})
    assert [factor.shape for factor in optimizer.factors(weight)] == 3 * [weight.shape]
    real = Parameter(randn(4, 3))
    other = build([real], base, depth=3)
    step_with(other, {real: randn(4, 3)})
    assert optimizer.state[weight].keys() == other.state[real].keys()


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "AdamW"])
def test_fused_refuses_the_meta_device_as_the_base_does(name: str) -> None:
    def step(build_it: Callable[[list[Tensor]], torch.optim.Optimizer]) -> str:
        weight = Parameter(torch.empty(4, 3, device="meta"))
        optimizer = build_it([weight])
        with pytest.raises(RuntimeError, match="fused=True") as refused:
            step_with(optimizer, {weight: torch.empty_like(weight)})
        return str(refused.value)

    base = BY_NAME[name]
    ours = step(lambda weights: build(weights, base, fused=True))
    assert ours == step(lambda weights: base.cls(weights, fused=True, **base.options))
