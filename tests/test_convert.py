"""A running plain optimizer can be switched over: its state becomes the factors'."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import BASES, Base, Lion, assert_same_state, every_base, seeded, step_with

CONVERTED = [base for base in BASES if base.cls is not Lion]
# Bases with a state, that a rate of 0 holds still, so that the chain rule is exact.
STILL = [base for base in CONVERTED if base.name not in ("SGD", "Rprop", "Adadelta", "ASGD")]


def parameters() -> list[Parameter]:
    draw = torch.randn(5, 4, generator=seeded(1), dtype=torch.float64)
    return [Parameter(draw), Parameter(torch.ones(4, dtype=torch.float64))]


def gradients(steps: int) -> list[list[Tensor]]:
    generator = seeded(2)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 4), (4,))]
        for _ in range(steps)
    ]


def run(optimizer: torch.optim.Optimizer, params: list[Parameter], steps: int) -> None:
    for grads in gradients(steps):
        step_with(optimizer, dict(zip(params, grads, strict=True)))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("base", STILL, ids=lambda base: base.name)
def test_converted_state_is_what_the_factors_would_have_gathered(base: Base, depth: int) -> None:
    """At lr 0 nothing moves, so both ways lead to the same state but for rounding and the base's eps."""
    options = {**base.options, "lr": 0.0}
    if base.takes("weight_decay"):
        options["weight_decay"] = 0.0
    params, others = parameters(), parameters()
    plain = base.cls(params, **options)
    run(plain, params, steps=6)
    converted = DWFOptimizer.wrap(plain, penalty=0.0, depth=depth, flush=None)

    gathered = DWFOptimizer(others, base=base.cls, penalty=0.0, depth=depth, flush=None, **options)
    run(gathered, others, steps=6)

    for index, expected in gathered.state_dict()["state"].items():
        state = converted.state_dict()["state"][index]
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, Tensor):
                # The bases add an eps of at most 1e-8 to gradients of size 1 times factors above 0.1.
                torch.testing.assert_close(state[key], value, rtol=1e-6, atol=1e-7)
            else:
                assert state[key] == value


@pytest.mark.parametrize("base", CONVERTED, ids=lambda base: base.name)
def test_a_wrapped_run_goes_on_where_it_was(base: Base) -> None:
    params = parameters()
    plain = base.cls(params, **base.options)
    run(plain, params, steps=5)
    before = [p.detach().clone() for p in params]
    optimizer = DWFOptimizer.wrap(plain, penalty=0.0, lr_scale=1.0)
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    run(optimizer, params, steps=1)
    steps = [s["base.0.step"] for s in optimizer.state.values() if "base.0.step" in s]
    assert all(float(step) == 6 for step in steps)
    assert all(p.isfinite().all() and not torch.equal(p, b) for p, b in zip(params, before, strict=True))


@every_base
def test_loading_the_bases_checkpoint_is_wrapping(base: Base) -> None:
    if base.cls is Lion:
        with pytest.raises(ValueError, match="MOMENTS"):
            wrapped_and_loaded(base)
        return
    wrapped, loaded = wrapped_and_loaded(base)
    assert_same_state(wrapped, loaded)


def wrapped_and_loaded(base: Base) -> tuple[DWFOptimizer, DWFOptimizer]:
    params, others = parameters(), parameters()
    plain = base.cls(params, **base.options)
    run(plain, params, steps=3)
    with torch.no_grad():
        for other, p in zip(others, params, strict=True):
            other.copy_(p)
    loaded = DWFOptimizer(others, base=base.cls, penalty=1e-3, **{**base.options, "lr": 0.5})
    loaded.load_state_dict(plain.state_dict())
    return DWFOptimizer.wrap(plain, penalty=1e-3), loaded


@pytest.mark.parametrize("steps", [0, 3])
def test_the_bases_checkpoint_replaces_what_an_optimizer_has_gathered(steps: int) -> None:
    """As in torch, nothing of the run before is left: neither momentum nor sums, nor its factors."""
    params, others, sources = parameters(), parameters(), parameters()
    plain = torch.optim.SGD(sources, lr=0.02, momentum=0.9)
    run(plain, sources, steps)
    used, fresh = (
        DWFOptimizer(some, lr=0.01, momentum=0.9, dampening=0.1, penalty=1e-3)
        for some in (params, others)
    )
    run(used, params, steps=2)
    for some, optimizer in ((params, used), (others, fresh)):
        with torch.no_grad():
            for p, source in zip(some, sources, strict=True):
                p.copy_(source)
        optimizer.load_state_dict(plain.state_dict())
    assert_same_state(used, fresh)
    run(used, params, steps=2)
    run(fresh, others, steps=2)
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def test_what_cannot_be_converted_changes_nothing() -> None:
    params = parameters()
    lion = Lion(params, lr=0.01)
    run(lion, params, steps=2)
    optimizer = DWFOptimizer(params, base=Lion, lr=0.01, penalty=0.0)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"Lion's state 'average'.*MOMENTS"):
        optimizer.load_state_dict(lion.state_dict())
    assert optimizer.state_dict() == before


def test_another_optimizers_checkpoint_is_refused() -> None:
    params = parameters()
    adam = torch.optim.Adam(params, lr=0.01)
    run(adam, params, steps=2)
    optimizer = DWFOptimizer(params, lr=0.01, penalty=0.0)
    with pytest.raises(ValueError, match=r"nor of its base SGD.*lacks \['dampening', 'momentum'"):
        optimizer.load_state_dict(adam.state_dict())


def test_an_optimizer_that_has_not_stepped_starts_fresh() -> None:
    # Adagrad fills its state when it is built; the accumulator's start is not a gradient's square.
    params = parameters()
    plain = torch.optim.Adagrad(params, lr=0.1, initial_accumulator_value=0.5)
    optimizer = DWFOptimizer.wrap(plain, penalty=0.0)
    run(optimizer, params, steps=1)
    fresh = parameters()
    expected = DWFOptimizer(
        fresh, base=torch.optim.Adagrad, lr=0.1, initial_accumulator_value=0.5, penalty=0.0
    )
    run(expected, fresh, steps=1)
    assert all(torch.equal(p, q) for p, q in zip(params, fresh, strict=True))


def test_wrap_keeps_a_group_that_is_without_decay() -> None:
    first, second = (Parameter(torch.ones(3)) for _ in range(2))
    plain = torch.optim.SGD(
        [{"params": [first]}, {"params": [second], "weight_decay": 0.0}], lr=0.1, weight_decay=0.1
    )
    optimizer = DWFOptimizer.wrap(plain, penalty=0.0)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
