"""One root a weight does what explicit balanced factors do, also where roots cross zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dwf_optim.step import blocked
from tests.helpers import BASES, Base, every_base
from tests.storage.problem import Pull, explicit, make

STEPS = 50
# Issue 4's bound, relative to the norm. A step commits a few dozen roundings of 1.1e-16, which the base
# may amplify.
TOLERANCE = 1e-12

BUILT_IN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
BY_NAME = {base.name: base for base in BASES}


def crossings(before: list[Tensor], after: list[Tensor]) -> int:
    return sum(int((a * b < 0).sum()) for a, b in zip(before, after, strict=True))


def assert_equal_to_explicit(storage: str, base: Base, depth: int, backend: str) -> None:
    problem = Pull()
    layouts = [w.stride() for w in problem.weights]
    # The truth's arithmetic: a single weight near zero would magnify the fused kernel's other roundings.
    plain = {"fused": False} if base.takes("fused") else {}
    optimizer = make(problem, base, depth, storage, backend=backend, **plain)
    truth = explicit(problem, optimizer, base)
    crossed = 0
    for step in range(STEPS):
        problem.time = step
        before = [fs[0].detach().clone() for fs in truth.factors]
        optimizer.zero_grad()
        problem.loss(problem.weights).backward()
        optimizer.step()
        truth.step()
        for weight, expected in zip(problem.weights, truth.weights(), strict=True):
            error = (weight - expected).norm() / expected.norm()
            assert error <= TOLERANCE, (step, tuple(weight.shape))
        crossed += crossings(before, [fs[0].detach() for fs in truth.factors])
    assert crossed >= 3
    assert [w.stride() for w in problem.weights] == layouts


@pytest.mark.parametrize("depth", [2, 3, 4])
@every_base
def test_tied_with_every_base(base: Base, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seven elements a block: every tensor but the 0-d one is cut.
    monkeypatch.setattr(blocked, "BLOCK", 7)
    assert_equal_to_explicit("tied", base, depth, "blocked")


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("base", [b for b in BASES if b.cls in BUILT_IN], ids=lambda base: base.name)
def test_ephemeral_with_built_in_bases(base: Base, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCK", 7)
    assert_equal_to_explicit("ephemeral", base, depth, "blocked")


@pytest.mark.parametrize("storage", ["tied", "ephemeral"])
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("base", [BY_NAME["SGD-momentum"], BY_NAME["Adam"]], ids=lambda base: base.name)
def test_on_whole_tensors(base: Base, backend: str, depth: int, storage: str) -> None:
    assert_equal_to_explicit(storage, base, depth, backend)


@pytest.mark.parametrize("storage", ["tied", "ephemeral"])
@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_the_start_is_that_of_full_storage_but_for_signs_that_cancel(storage: str, depth: int) -> None:
    problem, other = Pull(), Pull()
    lean = make(problem, BY_NAME["SGD"], depth, storage)
    full = make(other, BY_NAME["SGD"], depth, "full")
    for weight, twin in zip(problem.weights, other.weights, strict=True):
        factors, expected = lean.factors(weight), full.factors(twin)
        assert len(factors) == depth
        product = torch.stack(factors).prod(0)
        torch.testing.assert_close(product, weight.detach(), rtol=depth * 2.0**-52, atol=0)
        # Of full storage's last factor the product is exact, so that it takes all the rounding.
        for one, two in zip(factors, expected, strict=True):
            torch.testing.assert_close(one.abs(), two.abs(), rtol=2 * depth * 2.0**-52, atol=0)
