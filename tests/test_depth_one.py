"""Depth 1 is the base itself: bit for bit without penalty, with 2 lambda w in the gradient else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tests.helpers import BASES, Base, backward, dwf, every_base, identical, mlp, snapshot

STEPS = 50
FUSED = {"SGD", "Adam", "AdamW", "Adagrad"}  # what torch can fuse on a CPU


def flags_of(base: Base) -> list[dict[str, Any]]:
    flags: list[dict[str, Any]] = [{}]
    if base.takes("foreach"):
        flags += [{"foreach": True}, {"foreach": False}]
    if base.cls.__name__ in FUSED:
        flags.append({"fused": True})
    return flags


VARIANTS = [
    pytest.param(base, flags, id="-".join([base.name, *(f"{k}={v}" for k, v in flags.items())]))
    for base in BASES
    for flags in flags_of(base)
]


def run_both(base: Base, penalty: float, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Train twins for 50 steps on a schedule; they must agree after every step."""
    options = {**base.options, **options}
    model, twin = mlp(), mlp()
    optimizer = dwf(model, base, depth=1, penalty=penalty, **options)
    reference = base.cls(twin.parameters(), **options)
    schedules = [LambdaLR(each, lambda t: 0.97**t) for each in (optimizer, reference)]
    for _ in range(STEPS):
        backward(model)
        optimizer.step()
        backward(twin)
        add_penalty(twin, penalty, sign=-1 if options.get("maximize") else 1)
        reference.step()
        assert identical(snapshot(model), snapshot(twin))
        for schedule in schedules:
            schedule.step()
    assert_same_base_state(optimizer, reference)
    return model, twin


def add_penalty(model: nn.Module, penalty: float, sign: int) -> None:
    """Add the gradient of lambda ||w||^2 to the matrices'; biases are below min_ndim."""
    if penalty == 0:
        return
    for p in model.parameters():
        if p.ndim >= 2:
            p.grad.add_(p.detach(), alpha=sign * 2 * penalty)


def assert_same_base_state(optimizer: Optimizer, reference: Optimizer) -> None:
    states, expected = optimizer.state_dict()["state"], reference.state_dict()["state"]
    assert states.keys() == expected.keys()
    for index, state in expected.items():
        assert states[index].keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(states[index][key]), torch.as_tensor(value)), key


@pytest.mark.parametrize(("base", "flags"), VARIANTS)
def test_without_penalty_it_is_the_base_to_the_bit(base: Base, flags: dict[str, Any]) -> None:
    start = snapshot(mlp())
    model, _ = run_both(base, 0.0, **flags)
    assert not any(torch.equal(a, b) for a, b in zip(start, snapshot(model), strict=True))


@pytest.mark.parametrize(("base", "flags"), VARIANTS)
def test_penalty_is_added_to_the_gradient_of_matrices(base: Base, flags: dict[str, Any]) -> None:
    model, _ = run_both(base, 0.05, **flags)
    unpenalized, _ = run_both(base, 0.0, **flags)
    assert not identical(snapshot(model), snapshot(unpenalized))


@every_base
def test_weight_decay_keeps_its_meaning(base: Base) -> None:
    if not base.takes("weight_decay"):
        # Rprop and Lion have none, and refuse it as they would without us.
        with pytest.raises(TypeError, match="weight_decay"):
            dwf(mlp(), base, weight_decay=0.1)
        return
    decayed, _ = run_both(base, 0.0, weight_decay=0.1)
    plain, _ = run_both(base, 0.0, weight_decay=0.0)
    assert not identical(snapshot(decayed), snapshot(plain))
    run_both(base, 0.02, weight_decay=0.1)


@every_base
def test_maximize(base: Base) -> None:
    if base.takes("maximize"):
        run_both(base, 0.02, maximize=True, lr=1e-3)
    else:
        with pytest.raises(TypeError, match="maximize"):
            dwf(mlp(), base, maximize=True)


def test_penalty_is_torchs_coupled_weight_decay() -> None:
    """A second source for the sign and the 2: SGD's weight_decay adds wd * w to the gradient."""
    model, twin = mlp(), mlp()
    optimizer = dwf(model, BASES[0], depth=1, penalty=0.05, min_ndim=0)
    reference = torch.optim.SGD(twin.parameters(), weight_decay=0.1, **BASES[0].options)
    for _ in range(STEPS):
        backward(model)
        optimizer.step()
        backward(twin)
        reference.step()
    assert identical(snapshot(model), snapshot(twin))


def test_the_users_gradient_is_not_changed() -> None:
    model = mlp()
    optimizer = dwf(model, BASES[0], depth=1, penalty=0.05)
    backward(model)
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_sparse_gradients_pass_to_the_base(penalty: float) -> None:
    """What the refusal of sparse gradients advises (depth 1) has to work."""
    embedding, twin = (nn.Embedding(5, 3, sparse=True) for _ in range(2))
    twin.load_state_dict(embedding.state_dict())
    optimizer = dwf(embedding, BASES[0], depth=1, penalty=penalty)
    rows = torch.tensor([1, 3, 1])
    embedding(rows).sum().backward()
    if penalty:
        # The penalty's gradient is dense: it cannot be added, and must say so before anything moves.
        with pytest.raises(TypeError, match="penalty"):
            optimizer.step()
        assert torch.equal(embedding.weight, twin.weight)
        return
    optimizer.step()
    reference = torch.optim.SGD(twin.parameters(), **BASES[0].options)
    twin(rows).sum().backward()
    reference.step()
    assert torch.equal(embedding.weight, twin.weight)
