"""torch.compile of the model and of the step: the run is the uncompiled one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from tests.contract.common import BY_NAME, build
from tests.helpers import Base, assert_same_state, backward, data, identical, mlp, snapshot, train

STEPS = 6


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def fit(model: Callable[[Tensor], Tensor], optimizer: Optimizer) -> list[float]:
    inputs, targets = data()
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_model_trains_as_the_plain_one(backend: str) -> None:
    """The compiled graph must read the weights that the step writes."""
    base = BY_NAME["SGD-momentum"]
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    compiled = fit(torch.compile(model, backend=backend, fullgraph=True), optimizer)
    # These backends run the very kernels that run without them.
    assert compiled == fit(twin, plain)
    assert identical(snapshot(model), snapshot(twin))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "RMSprop-centered", "Lion"])
def test_compiled_step_is_the_step(name: str, backend: str) -> None:
    base = BY_NAME[name]
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    schedule, other = ExponentialLR(optimizer, 0.9), ExponentialLR(plain, 0.9)
    step = torch.compile(optimizer.step, backend=backend)
    for _ in range(STEPS):
        backward(model)
        step()
        schedule.step()
        train(twin, plain, 1)
        other.step()
        assert identical(snapshot(model), snapshot(twin))
    assert_same_state(optimizer, plain)


@pytest.mark.parametrize("base", [BY_NAME["SGD-momentum"], BY_NAME["Adam"]], ids=lambda b: b.name)
def test_a_compiled_training_step_around_the_optimizer(base: Base) -> None:
    """Forward in the graph, backward and step outside of it, as dynamo breaks them."""
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    inputs, targets = data()

    def training_step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()

    compiled = torch.compile(training_step, backend="aot_eager")
    for _ in range(STEPS):
        compiled()
    fit(twin, plain)
    assert identical(snapshot(model), snapshot(twin))
    assert_same_state(optimizer, plain)


def test_compiled_step_takes_a_closure_and_new_groups() -> None:
    base = BY_NAME["SGD-momentum"]
    model, twin = mlp(), mlp()
    optimizer = build(model[0].parameters(), base)
    plain = build(twin[0].parameters(), base)
    step = torch.compile(optimizer.step, backend="eager")
    for each, move, network in ((optimizer, step, model), (plain, plain.step, twin)):
        first = move(lambda network=network: backward(network))
        each.add_param_group({"params": list(network[2].parameters()), "depth": 2})
        second = move(lambda network=network: backward(network))
        assert second < first
    assert identical(snapshot(model), snapshot(twin))
