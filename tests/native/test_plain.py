"""Biases beside factorized weights: the base's own to the bit, also where the extension steps them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.optim.sgd import sgd

from dwf_optim import DWFOptimizer
from dwf_optim.step import native, native_plain
from tests.helpers import BASES, Base, identical, seeded, step_with

STEPS = 6
NATIVE = [base for base in BASES if base.cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)]
native_bases = pytest.mark.parametrize("base", NATIVE, ids=lambda base: base.name)
# The last is beyond what the extension takes.
SIZES = (0, 1, 3, 16, 33, 300, 20_000)


def biases() -> list[Parameter]:
    return [Parameter(torch.randn(size, generator=seeded(size))) for size in SIZES] + [
        Parameter(torch.randn((), generator=seeded(1))),
        Parameter(torch.randn(12, generator=seeded(2))[::3]),  # with gaps
        Parameter(torch.randn(5, generator=seeded(3)).double()),
        Parameter(torch.randn(5, generator=seeded(4)).bfloat16()),
    ]


def weight() -> Parameter:
    return Parameter(torch.randn(7, 5, generator=seeded(5)))


def draw(p: Tensor, step: int) -> Tensor:
    """A gradient; now and then there is none, and some numbers are no numbers or denormal."""
    grad = torch.randn(p.shape, generator=seeded(100 + step)).to(p.dtype)
    if p.numel() > 100:
        grad.view(-1)[step::17] = 1e-41
        grad.view(-1)[step::51] = float("inf")
    return grad


def run(optimizer: Optimizer, params: list[Parameter], steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            # Torch's fused SGD cannot take in those that have had no gradient in the first step.
            p.grad = draw(p, step) if step == 0 or (i + step) % 5 else None
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.9


def build(params: list[Parameter], base: Base, **options: Any) -> DWFOptimizer:
    return DWFOptimizer([weight(), *params], base=base.cls, penalty=1e-3, **base.options, **options)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many of them the extension stepped, call by call."""
    calls: list[int] = []
    step_plain = native.step_plain

    def counted(batch: native.Batch, options: dict[str, Any]) -> None:
        calls.append(len(batch.table.plain_weights))
        step_plain(batch, options)

    monkeypatch.setattr(native, "step_plain", counted)
    return calls


@native_bases
@pytest.mark.parametrize(
    "flags",
    [{}, {"foreach": True}, {"fused": True}, {"maximize": True}, {"weight_decay": 0.1}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:weight_decay=0.1 acts on tensors without factors only")
def test_the_same_bits_as_the_base(base: Base, flags: dict[str, Any], taken: list[int]) -> None:
    ours, theirs = biases(), biases()
    if "fused" in flags:  # it refuses, or misreads, tensors with gaps by itself
        ours, theirs = ours[:8], theirs[:8]
    base = Base(base.name, base.cls, {**base.options, **flags}, base.kind)
    optimizer, plain = build(ours, base), base.cls(theirs, **base.options)
    for step in range(STEPS):
        run(optimizer, ours, range(step, step + 1))
        run(plain, theirs, range(step, step + 1))
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=0, equal_nan=True)
            own, expected = optimizer.state.get(p, {}), plain.state.get(q, {})
            assert own.keys() == expected.keys()
            for key, value in expected.items():
                torch.testing.assert_close(own[key], value, rtol=0, atol=0, equal_nan=True)
    by_torch = "fused" in flags or "foreach" in flags or not native_plain._is_torchs()
    here = base.cls is torch.optim.SGD and not by_torch
    assert any(taken) == here


def test_the_version_of_a_bias_tells_of_the_step() -> None:
    ours = biases()[:6]
    optimizer = build(ours, BASES[1])
    run(optimizer, ours, range(2))
    before = [p._version for p in ours]
    step_with(optimizer, {p: draw(p, 2) for p in ours})
    assert all(p._version > version for p, version in zip(ours, before, strict=True))


def test_trying_it_out_calls_no_hooks_and_finds_a_single_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Optimizer] = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: calls.append(optimizer))
    try:
        native_plain._is_torchs.__wrapped__()
    finally:
        handle.remove()
    assert not calls

    def rounding_otherwise(params: list[Tensor], *rest: Any, **options: Any) -> None:
        sgd(params, *rest, **options)
        torch.nextafter(params[-1][-1], torch.tensor(10.0), out=params[-1][-1])

    monkeypatch.setattr(native_plain, "sgd", rounding_otherwise)
    assert not native_plain._is_torchs.__wrapped__()


def test_a_machine_that_rounds_otherwise_leaves_them_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for agrees in (True, False):
        monkeypatch.setattr(native_plain, "_is_torchs", lambda agrees=agrees: agrees)
        ours = biases()
        run(build(ours, BASES[1]), ours, range(STEPS))
        runs.append([p.detach().nan_to_num(0.0) for p in ours])
    assert identical(*runs)
