"""What one root a weight keeps: bytes, checkpoints, writes from outside, converted runs."""

from __future__ import annotations

import io
import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer
from tests.helpers import (
    BASES,
    Base,
    assert_same_state,
    backward,
    dwf,
    identical,
    mlp,
    snapshot,
    step_with,
    train,
)
from tests.storage.problem import even_depths_allowed

BUILT_IN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
BY_NAME = {base.name: base for base in BASES}
LEAN = ["tied", "ephemeral"]
CASES = [
    *(("tied", base) for base in BASES),
    *(("ephemeral", base) for base in BASES if base.cls in BUILT_IN),
]
every_case = pytest.mark.parametrize(("storage", "base"), CASES, ids=lambda x: getattr(x, "name", x))


@pytest.mark.parametrize(
    ("storage", "name", "limit"),
    [
        ("tied", "SGD", 5),
        ("tied", "SGD-momentum", 9),
        ("tied", "Adam", 13),
        ("ephemeral", "SGD", 0),
        ("ephemeral", "SGD-momentum", 5),
        ("ephemeral", "Adam", 9),
    ],
)
def test_bytes_a_parameter(storage: str, name: str, limit: float) -> None:
    """Issue 4's limits; they leave one byte a parameter for what is kept once per tensor."""
    weight = Parameter(torch.randn(100, 100, generator=torch.Generator().manual_seed(0)))
    base = BY_NAME[name]
    optimizer = DWFOptimizer(
        [weight], base=base.cls, penalty=1e-3, depth=3, storage=storage, **base.options
    )
    step_with(optimizer, {weight: torch.ones_like(weight)})
    tensors = [v for v in optimizer.state[weight].values() if isinstance(v, Tensor)]
    assert sum(t.untyped_storage().nbytes() for t in tensors) <= limit * weight.numel()


def through_torch(optimizer: Optimizer) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


@pytest.mark.parametrize("depth", [3, 4])
@every_case
def test_a_resumed_run_goes_on_bit_by_bit(storage: str, base: Base, depth: int) -> None:
    model = mlp()
    with even_depths_allowed():
        optimizer = dwf(model, base, storage=storage, depth=depth)
        train(model, optimizer, 6)
        resumed = mlp(seed=3)
        resumed.load_state_dict(model.state_dict())
        other = dwf(resumed, base, storage=storage, depth=depth)
        other.load_state_dict(through_torch(optimizer))
    pair = pickle.loads(pickle.dumps(deepcopy((model, optimizer))))
    train(model, optimizer, 6)
    for twin, twin_optimizer in [(resumed, other), pair]:
        train(twin, twin_optimizer, 6)
        assert identical(snapshot(model), snapshot(twin))
        assert_same_state(optimizer, twin_optimizer)


@pytest.mark.parametrize("storage", LEAN)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_factors_of_a_trained_weight_are_balanced_and_make_the_weight(storage: str, depth: int) -> None:
    model = mlp()
    with even_depths_allowed():
        optimizer = dwf(model, BY_NAME["Adam"], storage=storage, depth=depth)
    train(model, optimizer, 20)
    for p in (model[0].weight, model[2].weight):
        factors = optimizer.factors(p)
        assert len(factors) == depth
        assert all(torch.equal(f.abs(), factors[0].abs()) for f in factors)
        product = factors[0]
        for factor in factors[1:]:
            product = product * factor
        torch.testing.assert_close(product, p.detach(), rtol=depth * 2.0**-23, atol=0)
    assert optimizer.factors(model[0].bias) == []


@pytest.mark.parametrize("storage", LEAN)
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("how", ["copy_", "neg_", "data"])
def test_writes_from_outside_are_taken_over(storage: str, depth: int, how: str) -> None:
    model = mlp()
    with even_depths_allowed():
        optimizer = dwf(model, BY_NAME["SGD"], lr=1e-6, lr_scale=1.0, storage=storage, depth=depth)
    train(model, optimizer, 3)
    weight = model[0].weight
    with torch.no_grad():
        if how == "copy_":
            weight.copy_(mlp(seed=5)[0].weight)
        elif how == "neg_":
            weight.data.neg_()
        else:
            weight.data = mlp(seed=5)[0].weight.detach().clone()
    written = weight.detach().clone()
    train(model, optimizer, 1)
    # One step at this rate moves a weight by less than 1e-4 of itself and by something.
    torch.testing.assert_close(weight, written, rtol=1e-4, atol=1e-5)
    assert not torch.equal(weight, written)


@pytest.mark.parametrize("storage", LEAN)
def test_the_state_follows_the_weight_to_float64(storage: str) -> None:
    model = mlp()
    matrices = [model[0].weight, model[2].weight]  # torch's own state of the biases would not follow
    optimizer = DWFOptimizer(matrices, 0.01, base=torch.optim.Adam, penalty=1e-3, storage=storage)
    train(model, optimizer, 3)
    model.double()
    train(model, optimizer, 3)
    for p in matrices:
        shaped = [v for v in optimizer.state[p].values() if isinstance(v, Tensor) and v.shape == p.shape]
        assert shaped
        assert all(v.dtype == torch.float64 for v in shaped)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_have_a_float32_root(dtype: torch.dtype) -> None:
    weight = Parameter(torch.tensor([[0.5, -0.25, 0.125]], dtype=dtype))
    optimizer = DWFOptimizer([weight], 1e-3, penalty=0.0, lr_scale=1.0, storage="tied")
    for _ in range(64):
        # Steps far below the spacing of the weight's dtype add up in the root.
        step_with(optimizer, {weight: torch.full_like(weight, 0.05)})
    root = optimizer.state[weight]["root"]
    assert root.dtype == torch.float32
    expected = torch.tensor([[0.5, -0.25, 0.125]], dtype=torch.float64)
    r = expected.sign() * expected.abs() ** (1 / 3)
    for _ in range(64):
        r = r - 1e-3 * float(torch.tensor(0.05, dtype=dtype)) * r**2
    torch.testing.assert_close(root.double(), r, rtol=64 * 2.0**-23, atol=0)


@pytest.mark.parametrize("storage", LEAN)
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_a_converted_run_is_that_of_balanced_factors(storage: str, depth: int, name: str) -> None:
    ends = []
    for kind in (storage, "full"):
        model = mlp(torch.float64)
        plain = BY_NAME[name].cls(model.parameters(), **BY_NAME[name].options)
        train(model, plain, 5)
        with even_depths_allowed():
            optimizer = DWFOptimizer.wrap(
                plain, penalty=1e-3, depth=depth, storage=kind, init="balanced"
            )
        train(model, optimizer, 5)
        ends.append(snapshot(model))
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("storage", LEAN)
def test_depth_one_is_the_base_whatever_the_storage(storage: str) -> None:
    models = mlp(), mlp()
    train(models[0], torch.optim.SGD(models[0].parameters(), lr=0.1, momentum=0.9), 5)
    ours = DWFOptimizer(models[1].parameters(), 0.1, momentum=0.9, penalty=0.0, depth=1, storage=storage)
    train(models[1], ours, 5)
    assert identical(snapshot(models[0]), snapshot(models[1]))


@pytest.mark.parametrize("storage", LEAN)
def test_at_rate_zero_nothing_but_base_state_moves(storage: str) -> None:
    model = mlp()
    optimizer = dwf(model, BY_NAME["SGD-momentum"], storage=storage)
    train(model, optimizer, 2)
    before = snapshot(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    momentum = deepcopy(optimizer.state[model[0].weight]["base.root.momentum_buffer"])
    train(model, optimizer, 2)
    assert identical(before, snapshot(model))
    assert not torch.equal(momentum, optimizer.state[model[0].weight]["base.root.momentum_buffer"])


def test_modes_may_differ_by_group() -> None:
    model = mlp()
    groups = [
        {"params": [model[0].weight], "storage": "tied"},
        {"params": [model[2].weight]},
        {"params": [model[0].bias, model[2].bias]},
    ]
    optimizer = DWFOptimizer(groups, 0.05, momentum=0.9, penalty=1e-3)
    start = backward(model)
    train(model, optimizer, 30)
    assert backward(model) < start
    assert "root" in optimizer.state[model[0].weight]
    assert "factor.2" in optimizer.state[model[2].weight]
