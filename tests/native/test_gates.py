"""The native step of weights that share gates: within the derived bounds of the exact one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dwf_optim import _native
from dwf_optim.step import native
from tests.helpers import identical, seeded
from tests.native import gate_truth
from tests.native.gate_cases import LARGE, MANY, SPECS, GateCase, Spec, draw
from tests.native.gate_truth import Outcome
from tests.native.test_one_step import assert_within
from tests.native.truth import Bounded

CASES = 200
SETS = _native.instruction_sets()


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(native, "INSTRUCTION_SET", request.param)
    return request.param


# ------------------------------------------------------------------------------------ one step


def exact_step(case: GateCase, p: Tensor, spec: Spec) -> Outcome:
    omega, *gates = (tensor.double() for tensor in case.kept(p))
    shapes = [p.shape, *((-1,) for _ in gates)]
    moments = [
        [m.double().reshape(shape) for m in some]
        for some, shape in zip(case.moments(p), shapes, strict=True)
    ]
    grad, flat = p.grad.double(), [gate.flatten() for gate in gates]
    return gate_truth.step(
        case.setting, omega, flat, grad, spec.group(), moments, case.count, case.weigh
    )


def assert_step(case: GateCase, expected: list[Outcome]) -> int:
    """Hold every number after the step against the exact one; return how many weights were."""
    compared = 0
    for p, spec, outcome in zip(case.weights, case.specs, expected, strict=True):
        group = spec.group()
        of_each = [group, *(torch.arange(gate.numel()) for gate in case.kept(p)[1:])]
        for part, which in enumerate(of_each):
            fits, alive, dead = (
                outcome.representable[part],
                outcome.alive[which],
                outcome.dead[which],
            )
            after = [outcome.factors[part], *outcome.moments[part]]
            found = [case.kept(p)[part], *case.moments(p)[part]]
            for number, (f, e) in enumerate(zip(found, after, strict=True)):
                f = f.reshape(which.shape)
                assert_within(f, e, fits & alive, f"tensor {number} of part {part}")
                assert not f[dead].any()
        live = outcome.weight_representable & outcome.alive[group]
        value, error = outcome.weight
        info = torch.finfo(p.dtype)
        if p.dtype != torch.float32:
            error = error + info.eps / 2 * (value.abs() + error) + info.tiny * info.eps
            live = live & (value.abs() + error < info.max * (1 - info.eps))
        assert_within(p.detach(), Bounded(value, error), live, "weight")
        assert not p[outcome.dead[group]].any()
        compared += int((live | outcome.dead[group]).sum())
    return compared


@pytest.mark.parametrize("part", range(10))
def test_every_number_is_within_its_bound(part: int, instruction_set: str) -> None:
    compared = total = 0
    for seed in range(part, CASES, 10):
        case = draw(seed)
        expected = [exact_step(case, p, spec) for p, spec in zip(case.weights, case.specs, strict=True)]
        case.optimizer.step()
        compared += assert_step(case, expected)
        total += sum(p.numel() for p in case.weights)
    assert compared > 0.25 * total  # the rest may overflow, in sums over whole groups, or is near death


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_many_elements(seed: int, instruction_set: str) -> None:
    """Ordinary numbers, as nearly every such group has one that might overflow otherwise."""
    case = draw(seed, specs=LARGE, depth=3, lr=0.01)
    for p, spec in zip(case.weights, case.specs, strict=True):
        generator = seeded(seed)
        for tensor in (*case.kept(p), p.grad):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        product = (case.kept(p)[1] * case.kept(p)[2]).flatten()[spec.group()]
        with torch.no_grad():
            p.copy_(case.kept(p)[0] * product)
    expected = [exact_step(case, p, spec) for p, spec in zip(case.weights, case.specs, strict=True)]
    case.optimizer.step()
    assert assert_step(case, expected) > 0


@pytest.mark.parametrize("seed", range(0, CASES, 20))
def test_threads_do_not_change_a_bit(seed: int, instruction_set: str) -> None:
    runs = []
    for threads in (1, 2, 5):
        case = draw(seed, specs=[*MANY, *SPECS[:3]])
        torch.set_num_threads(threads)
        try:
            case.optimizer.step()
        finally:
            torch.set_num_threads(1)
        runs.append(case.everything())
    assert identical(runs[0], runs[1])
    assert identical(runs[0], runs[2])


def test_instruction_sets_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over groups, too, are added up in one order in all of them."""
    for seed in range(0, CASES, 10):
        runs = []
        for name in SETS:
            monkeypatch.setattr(native, "INSTRUCTION_SET", name)
            case = draw(seed, specs=[*SPECS, *MANY[:1]])
            case.optimizer.step()
            runs.append(case.everything())
        assert all(identical(runs[0], run) for run in runs[1:])


@pytest.mark.parametrize("layout", ["misaligned", "gaps", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_where_tensors_lie_does_not_change_a_bit(
    layout: str, dtype: torch.dtype, instruction_set: str
) -> None:
    """In another order of memory a sum over a group is added up in another order."""
    for seed in range(4):
        runs = []
        for each in (layout, "contiguous"):
            case = draw(seed, layout=each, dtype=dtype, specs=SPECS)
            case.optimizer.step()
            runs.append(case.everything())
        assert identical(*runs)
