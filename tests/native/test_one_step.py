"""One native step from any state: within the derived bounds of the exact one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dwf_optim import _native
from dwf_optim.step import native
from dwf_optim.storage import STORAGES
from tests.helpers import identical
from tests.native import root_truth, truth
from tests.native.cases import Case, draw
from tests.native.truth import Bounded, Outcome

CASES = 200
SETS = _native.instruction_sets()
every_storage = pytest.mark.parametrize("storage", list(STORAGES))


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(native, "INSTRUCTION_SET", request.param)
    return request.param


def exact_step(case: Case, p: Tensor) -> Outcome:
    s, depth, count = case.setting, case.depth, case.count
    kept = [tensor.double() for tensor in case.kept(p)]
    moments = [[m.double() for m in some] for some in case.moments(p)]
    weight, grad = p.detach().double(), p.grad.double()
    if case.storage == "full":
        return truth.step(s, kept, grad, moments, count)
    if case.storage == "tied":
        return root_truth.tied(s, kept[0], weight, grad, moments[0], depth, count)
    return root_truth.ephemeral(s, weight, grad, moments[0], depth, count)


def assert_within(found: Tensor, expected: Bounded, where: Tensor, what: str) -> None:
    error = (found.double() - expected.value).abs()
    wrong = where & ~(error <= expected.error)
    assert not wrong.any(), (
        what,
        found[wrong][:3],
        expected.value[wrong][:3],
        (error / expected.error)[wrong][:3],
    )


def assert_step(case: Case, expected: list[Outcome]) -> int:
    """Hold every number after the step against the exact one; return how many weights were."""
    compared = 0
    for p, outcome in zip(case.weights, expected, strict=True):
        live = outcome.representable & outcome.alive
        dead = outcome.representable & outcome.dead
        after = [*outcome.factors, *(m for some in outcome.moments for m in some)]
        found = [*case.kept(p), *(m for some in case.moments(p) for m in some)]
        for number, (f, e) in enumerate(zip(found, after, strict=True)):
            assert_within(f, e, live, f"tensor {number} of the state")
            assert not f[dead].any()
        value, error = outcome.weight
        info = torch.finfo(p.dtype)
        if p.dtype != torch.float32:
            error = error + info.eps / 2 * (value.abs() + error) + info.tiny * info.eps
            live = live & (value.abs() + error < info.max * (1 - info.eps))
        assert_within(p.detach(), Bounded(value, error), live, "weight")
        assert not p[dead].any()
        compared += int((live | dead).sum())
    return compared


@every_storage
@pytest.mark.parametrize("part", range(10))
def test_every_number_is_within_its_bound(part: int, storage: str, instruction_set: str) -> None:
    compared = total = 0
    for seed in range(part, CASES, 10):
        case = draw(seed, storage)
        expected = [exact_step(case, p) for p in case.weights]
        case.optimizer.step()
        compared += assert_step(case, expected)
        total += sum(p.numel() for p in case.weights)
    assert compared > 0.5 * total  # the rest may overflow, or is within a rounding of death


@every_storage
@pytest.mark.parametrize("seed", range(0, CASES, 10))
def test_threads_do_not_change_a_bit(seed: int, storage: str, instruction_set: str) -> None:
    runs = []
    for threads in (1, 2, 5):
        case = draw(seed, storage, shapes=[(3, 7), (300, 311), (1, 1), (8, 8)])
        torch.set_num_threads(threads)  # only now: torch's own arithmetic depends on it
        try:
            case.optimizer.step()
        finally:
            torch.set_num_threads(1)
        runs.append(case.everything())
    assert identical(runs[0], runs[1])
    assert identical(runs[0], runs[2])


@every_storage
def test_instruction_sets_do_not_change_a_bit(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation is rounded by itself, as IEEE 754 says, in all of them."""
    for seed in range(0, CASES, 10):
        runs = []
        for name in SETS:
            monkeypatch.setattr(native, "INSTRUCTION_SET", name)
            case = draw(seed, storage)
            case.optimizer.step()
            runs.append(case.everything())
        assert all(identical(runs[0], run) for run in runs[1:])


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "misaligned", "gaps", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("storage", ["full", "tied"])
def test_layouts_do_not_change_a_bit(
    layout: str, dtype: torch.dtype, storage: str, instruction_set: str
) -> None:
    assert_same_in_every_layout(layout, dtype, storage)


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "misaligned", "gaps", "mixed"])
def test_layouts_do_not_change_a_bit_without_a_root(layout: str, instruction_set: str) -> None:
    assert_same_in_every_layout(layout, torch.float32, "ephemeral")


def assert_same_in_every_layout(layout: str, dtype: torch.dtype, storage: str) -> None:
    for seed in range(8):
        runs = []
        for each in (layout, "contiguous"):
            case = draw(seed, storage, layout=each, dtype=dtype, shapes=[(5, 4, 3, 7), (33, 65)])
            case.optimizer.step()
            runs.append(case.everything())
        assert identical(*runs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_precision_weight_and_gradient(dtype: torch.dtype, instruction_set: str) -> None:
    """All 65536 of them: read exactly as gradients, and rounded as torch rounds."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).view(256, 256)
    case = draw(
        0, base="SGD", momentum=0.0, depth=2, dtype=dtype, layout="contiguous", shapes=[(256, 256)]
    )
    case.setting.flush = case.setting.maximize = False
    p = case.weights[0]
    case.optimizer.param_groups[0].update(momentum=0.0, nesterov=False, dampening=0.0, penalty=0.0)
    case.optimizer.param_groups[0].update(lr=1.0, flush=None, maximize=False)
    case.optimizer.state[p] = {"factor.0": torch.ones(256, 256), "factor.1": torch.zeros(256, 256)}
    with torch.no_grad():
        p.zero_()
    p.grad = every.clone()
    case.optimizer.step()
    # f_1 = 0 - 1 * g * 1, and f_0 = 1 - 1 * g * 0.
    zero_times = every.float() * 0
    assert identical([case.kept(p)[1]], [-every.float()])
    assert identical([case.kept(p)[0]], [1 - zero_times])
    assert identical([p.detach()], [(case.kept(p)[0] * case.kept(p)[1]).to(dtype)])


def test_rounding_to_half_precision_is_torchs(instruction_set: str) -> None:
    """Products of all sizes, halfway cases among them."""
    for dtype in (torch.bfloat16, torch.float16):
        exponents = torch.arange(-45, 45).repeat_interleave(64)
        mantissas = (1 + torch.arange(64) / 64 + 2.0**-9).repeat(90)
        values = (mantissas * 2.0**exponents).view(90, 64)
        values = torch.cat([values, values * (1 + 2.0**-12), values.bfloat16().float() * (1 + 2.0**-8)])
        case = draw(
            1, base="SGD", momentum=0.9, depth=2, dtype=dtype, layout="contiguous", shapes=[(270, 64)]
        )
        p = case.weights[0]
        state = case.optimizer.state[p]
        state["factor.0"], state["factor.1"] = values.clone(), torch.ones(270, 64)
        for d in (0, 1):
            state[f"base.{d}.momentum_buffer"] = torch.zeros(270, 64)
        case.optimizer.param_groups[0].update(penalty=0.0, flush=None)
        with torch.no_grad():
            p.copy_(values)
        p.grad = torch.zeros_like(p)
        case.optimizer.step()
        assert identical([p.detach()], [values.to(dtype)])
