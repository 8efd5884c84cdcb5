"""GradScaler, autocast, clipping, accumulation: what happens between backward and step."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dwf_optim import DWFOptimizer
from tests.contract.common import BY_NAME, Shadow, all_factors, build, matrices, rounding
from tests.helpers import assert_same_state, backward, data, identical, mlp, snapshot, train

STEPS = 8
VARIANTS = [
    ("SGD-momentum", {}),
    ("SGD-momentum", {"fused": True}),
    ("Adam", {}),
    ("Adam", {"foreach": True}),
    ("Adam", {"fused": True}),
    ("AdamW", {"fused": True}),
    ("RMSprop", {}),
    ("Lion", {}),
]
variants = pytest.mark.parametrize(("name", "flags"), VARIANTS)


def scaled_backward(
    model: nn.Module, optimizer: DWFOptimizer, scaler: torch.amp.GradScaler, gain: float = 1.0
) -> None:
    inputs, targets = data()
    optimizer.zero_grad()
    scaler.scale(gain * nn.functional.mse_loss(model(inputs), targets)).backward()


def scaled_step(model: nn.Module, optimizer: DWFOptimizer, scaler: torch.amp.GradScaler) -> None:
    scaled_backward(model, optimizer, scaler)
    scaler.step(optimizer)
    scaler.update()


# --------------------------------------------------------------------------------- GradScaler


@variants
def test_scaled_gradients_give_the_same_run(name: str, flags: dict[str, Any]) -> None:
    """A power of two scales exactly, so the runs agree to the bit."""
    base = BY_NAME[name]
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base, **flags), build(twin.parameters(), base, **flags)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for _ in range(STEPS):
        scaled_step(model, optimizer, scaler)
    assert scaler.get_scale() > 2.0**10
    train(twin, plain, STEPS)
    assert identical(snapshot(model), snapshot(twin))
    assert_same_state(optimizer, plain)


@variants
def test_skipped_step_leaves_everything(name: str, flags: dict[str, Any]) -> None:
    model, twin = mlp(), mlp()
    optimizer = build(model.parameters(), BY_NAME[name], **flags)
    other = build(twin.parameters(), BY_NAME[name], **flags)
    train(model, optimizer, 2)
    train(twin, other, 2)
    versions = [p._version for p in model.parameters()]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    scaled_backward(model, optimizer, scaler, gain=1000.0)  # beyond float32
    assert not all(bool(p.grad.isfinite().all()) for p in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**27
    assert identical(snapshot(model), snapshot(twin))
    assert [p._version for p in model.parameters()] == versions
    assert_same_state(optimizer, other)
    scaled_step(model, optimizer, scaler)
    train(twin, other, 1)
    assert identical(snapshot(model), snapshot(twin))


@variants
def test_first_step_skipped_makes_no_state(name: str, flags: dict[str, Any]) -> None:
    model = mlp()
    optimizer = build(model.parameters(), BY_NAME[name], **flags)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    scaled_backward(model, optimizer, scaler, gain=1000.0)
    scaler.step(optimizer)
    assert not optimizer.state
    assert identical(snapshot(model), snapshot(mlp()))


def test_unscale_then_clip() -> None:
    base = BY_NAME["SGD-momentum"]
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for _ in range(STEPS):
        scaled_backward(model, optimizer, scaler)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        backward(twin)
        assert nn.utils.clip_grad_norm_(twin.parameters(), 0.1) > 0.1
        plain.step()
    assert identical(snapshot(model), snapshot(twin))


def test_it_does_not_claim_to_unscale_by_itself() -> None:
    optimizer = build(mlp().parameters(), BY_NAME["Adam"], fused=True)
    for each in (optimizer, copy.deepcopy(optimizer)):
        assert not hasattr(each, "_step_supports_amp_scaling")


# ------------------------------------------------------------------------------------ autocast


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_autocast_bfloat16_is_explicit_factors_on_its_gradients(name: str, scaled: bool) -> None:
    base, model = BY_NAME[name], mlp()
    optimizer = build(model.parameters(), base)
    shadow = Shadow(optimizer, matrices(model), base)
    inputs, targets = data()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6, enabled=scaled)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(inputs)
            assert output.dtype == torch.bfloat16
            loss = nn.functional.mse_loss(output.float(), targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        shadow.step()
        scaler.step(optimizer)
        scaler.update()
        shadow.check(rounding(torch.float32, STEPS))
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(f.dtype == torch.float32 for f in all_factors(optimizer))


# ------------------------------------------------------------------------------------ clipping


def clip_by_norm(model: nn.Module) -> list[Tensor]:
    """Clip; return what the gradients should have become, by torch's documented formula."""
    grads = [p.grad.clone() for p in model.parameters()]
    norm = torch.cat([g.flatten() for g in grads]).norm()
    assert norm > 0.05
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    return [g * (0.05 / (norm + 1e-6)) for g in grads if g.ndim >= 2]


def clip_by_value(model: nn.Module) -> list[Tensor]:
    expected = [p.grad.clamp(-0.01, 0.01) for p in matrices(model)]
    assert any(bool((p.grad.abs() > 0.01).any()) for p in matrices(model))
    nn.utils.clip_grad_value_(model.parameters(), 0.01)
    return expected


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_clipping_acts_on_the_dense_gradients(name: str, clip: Any) -> None:
    base, model = BY_NAME[name], mlp()
    optimizer = build(model.parameters(), base)
    shadow = Shadow(optimizer, matrices(model), base)
    for _ in range(STEPS):
        backward(model)
        shadow.step(clip(model))
        optimizer.step()
        shadow.check(rounding(torch.float32, STEPS))


# -------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("set_to_none", [False, True])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_accumulated_gradients_are_those_of_the_whole_batch(name: str, set_to_none: bool) -> None:
    base = BY_NAME[name]
    model, twin = mlp(torch.float64), mlp(torch.float64)
    optimizer, whole = build(model.parameters(), base), build(twin.parameters(), base)
    inputs, targets = data(torch.float64)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=set_to_none)
        for part in range(4):
            rows = slice(4 * part, 4 * part + 4)
            (nn.functional.mse_loss(model(inputs[rows]), targets[rows]) / 4).backward()
        optimizer.step()
    train(twin, whole, STEPS)
    for p, q in zip(snapshot(model), snapshot(twin), strict=True):
        # Only the order of sums differs. Adam divides by |g|, which amplifies that by |g| / |dg|.
        assert (p - q).norm() <= 1e-10 * q.norm()


def test_zero_grad_to_none_leaves_an_unused_layer_and_to_zero_decays_it() -> None:
    for set_to_none in (True, False):
        base, model = BY_NAME["SGD-momentum"], mlp(torch.float64)
        unused = nn.Parameter(torch.full((3, 3), 0.5, dtype=torch.float64))
        optimizer = build([*model.parameters(), unused], base, penalty=0.001)
        shadow = Shadow(optimizer, [unused], base)
        before = unused.detach().clone()
        unused.grad = torch.ones_like(unused)
        for _ in range(STEPS):
            backward(model)
            optimizer.zero_grad(set_to_none=set_to_none)
            if set_to_none:
                assert unused.grad is None
            else:
                shadow.step()
            optimizer.step()
        assert torch.equal(unused, before) == set_to_none
        if not set_to_none:
            shadow.check(rounding(torch.float64, STEPS))
            assert bool((unused.abs() < before.abs()).all())
