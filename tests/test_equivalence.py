"""A step of `DWFOptimizer` is the base's step on explicit factors, for every base and backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.step import blocked
from tests.helpers import BASES, Base, every_base, seeded
from tests.reference.autograd import ExplicitFactors

STEPS = 20
PENALTY = 0.01
# What the comparison allows, relative to the norm. One rounding is 1.1e-16; a step commits a few
# dozen of them, and the base may amplify them by a small factor at each of the 20 steps.
TOLERANCE = 1e-12

BY_NAME = {base.name: base for base in BASES}


@pytest.fixture(params=["reference", "blocked"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # Seven elements a block: every tensor but the 0-d one is cut, most into uneven pieces.
    monkeypatch.setattr(blocked, "BLOCK", 7)
    return request.param


def four_tensors() -> list[Parameter]:
    """Contiguous, transposed, channels-last and 0-d."""
    generator = seeded(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.6

    return [
        Parameter(draw(6, 5)),
        Parameter(draw(6, 3).t()),
        Parameter(draw(4, 2, 2, 2).contiguous(memory_format=torch.channels_last)),
        Parameter(draw().abs() + 0.5),
    ]


def loss(weights: Sequence[Tensor]) -> Tensor:
    """A regression through two layers, one by filters on patches, and a gain on both."""
    first, second, kernel, gain = weights
    generator = seeded(8)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    dense = torch.tanh(draw(9, 5) @ first.t()) @ second.t() * gain
    patches = torch.tanh(draw(7, 8) @ kernel.flatten(1).t()) * gain
    return ((dense - draw(9, 3)) ** 2).mean() + ((patches - draw(7, 4)) ** 2).mean()


def assert_equal_to_autograd(
    base: Base, depth: int, backend: str, init: str | None = None, **more: Any
) -> None:
    options = {**base.options, **more}
    if base.takes("weight_decay"):
        options["weight_decay"] = 0.0
    sign = -1 if options.get("maximize") else 1

    def objective(weights: Sequence[Tensor]) -> Tensor:
        return sign * loss(weights)

    weights = four_tensors()
    layouts = [w.stride() for w in weights]
    start = [w.detach().clone() for w in weights]
    optimizer = DWFOptimizer(
        weights,
        base=base.cls,
        penalty=PENALTY,
        depth=depth,
        init=init,
        lr_scale=1.0,
        flush=None,
        min_ndim=0,
        backend=backend,
        **options,
    )
    factors = [optimizer.factors(w) for w in weights]
    truth = ExplicitFactors(factors, objective, PENALTY, base.cls, **options)
    for step in range(STEPS):
        optimizer.zero_grad()
        objective(weights).backward()
        optimizer.step()
        truth.step()
        for weight, expected in zip(weights, truth.weights(), strict=True):
            error = (weight - expected).norm() / expected.norm()
            assert error <= TOLERANCE, (step, tuple(weight.shape))
    # All of them went somewhere, and none changed its layout.
    for weight, before, layout in zip(weights, start, layouts, strict=True):
        assert (weight - before).norm() > 1e-3 * before.norm()
        assert weight.stride() == layout


@pytest.mark.parametrize("depth", [2, 3, 4])
@every_base
def test_every_base_equals_explicit_autograd(base: Base, depth: int, backend: str) -> None:
    assert_equal_to_autograd(base, depth, backend)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_depth_eight(name: str, backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], 8, backend)


@pytest.mark.parametrize("init", ["balanced", "dwf", "varmatch"])
def test_other_inits(init: str, backend: str) -> None:
    # A rate at which also varmatch's heavy tails train stably, so that rounding does not grow.
    assert_equal_to_autograd(BY_NAME["SGD-momentum"], 3, backend, init=init, lr=0.005)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "RMSprop-centered", "Rprop"])
def test_maximize_climbs_the_objective_less_the_penalty(name: str, backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], 3, backend, maximize=True)


@pytest.mark.parametrize("flag", [{"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "AdamW", "Adagrad"])
def test_implementation_flags_reach_the_base(name: str, flag: dict[str, bool], backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], 3, backend, **flag)


def test_default_decay_of_adamw_does_not_touch_factors(backend: str) -> None:
    def one_step(**decay: float) -> list[Tensor]:
        weights = four_tensors()
        optimizer = DWFOptimizer(
            weights, lr=0.01, penalty=PENALTY, base=torch.optim.AdamW, backend=backend, **decay
        )
        loss(weights).backward()
        optimizer.step()
        return [w.detach() for w in weights]

    by_default, without = one_step(), one_step(weight_decay=0.0)
    assert all(torch.equal(a, b) for a, b in zip(by_default[:3], without[:3], strict=True))
    # The 0-d tensor has no factors: there the decay keeps its meaning.
    assert not torch.equal(by_default[3], without[3])


def test_one_block_or_many_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(block: int) -> list[Tensor]:
        monkeypatch.setattr(blocked, "BLOCK", block)
        weights = four_tensors()
        # Torch's fused kernels, which blocked takes unless told not to, round the elements that do not
        # fill a vector register in another way, so their bits depend on where a piece ends.
        optimizer = DWFOptimizer(
            weights, lr=0.02, momentum=0.9, penalty=PENALTY, backend="blocked", fused=False
        )
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(weights).backward()
            optimizer.step()
        return [w.detach() for w in weights]

    whole = run(10**6)
    for block in (1, 5, 16, 31):
        assert all(torch.equal(a, b) for a, b in zip(whole, run(block), strict=True)), block


def test_gradients_with_another_layout_than_the_weight(backend: str) -> None:
    weight = Parameter(torch.randn(4, 6, generator=seeded(1), dtype=torch.float64))
    transposed = Parameter(weight.detach().clone())
    runs = []
    for p, layout in ((weight, lambda g: g), (transposed, lambda g: g.t().contiguous().t())):
        optimizer = DWFOptimizer([p], lr=0.1, momentum=0.9, penalty=PENALTY, backend=backend)
        generator = seeded(2)
        for _ in range(4):
            grad = torch.randn(4, 6, generator=generator, dtype=torch.float64)
            p.grad = layout(grad)
            optimizer.step()
        runs.append(p.detach())
    assert torch.equal(*runs)


def test_state_with_another_layout_than_the_factors(backend: str) -> None:
    # As a checkpoint may bring it. A fused kernel that walks raw memory would pair the wrong elements.
    def run(layout: Callable[[Tensor], Tensor]) -> Tensor:
        weight = Parameter(torch.randn(4, 6, generator=seeded(1), dtype=torch.float64))
        optimizer = DWFOptimizer([weight], lr=0.1, momentum=0.9, penalty=PENALTY, backend=backend)
        generator = seeded(2)
        for _ in range(3):
            weight.grad = torch.randn(4, 6, generator=generator, dtype=torch.float64)
            optimizer.step()
            state = optimizer.state[weight]
            for d in range(3):
                state[f"base.{d}.momentum_buffer"] = layout(state[f"base.{d}.momentum_buffer"])
        return weight.detach()

    expected, other = run(lambda t: t), run(lambda t: t.t().contiguous().t())
    assert (expected - other).norm() <= TOLERANCE * expected.norm()
