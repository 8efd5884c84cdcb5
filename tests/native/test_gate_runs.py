"""Runs of the native step of weights that share gates: which it takes, zeros, writes from outside."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, _native
from dwf_optim.step import native
from tests.contract.common import rounding, through_disk
from tests.helpers import BASES, Base, identical, seeded, step_with
from tests.native.gate_cases import MANY, SPECS, Spec, plain
from tests.native.test_choice import NATIVE, draws, native_bases

SETS = _native.instruction_sets()
# At which a gate, whose gradient is a sum over its group, stays near 1 for some steps.
LR = 1e-4
MOMENTUM = next(base for base in BASES if base.name == "SGD-momentum")
every_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.structure}-{spec.shape}")


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(native, "INSTRUCTION_SET", request.param)
    return request.param


def build(params: Any, base: Base, **options: Any) -> DWFOptimizer:
    options = {"penalty": 1e-3, "structure": "neuron", "backend": "native", **base.options, **options}
    return DWFOptimizer(params, base=base.cls, **options)


def run(optimizer: DWFOptimizer, steps: range) -> None:
    for step in steps:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        step_with(optimizer, {p: draws(p, step) for p in weights})


def weight(spec: Spec, dtype: torch.dtype = torch.float32) -> Parameter:
    return Parameter((torch.randn(spec.shape, generator=seeded(1)) * 0.5).to(dtype))


# ------------------------------------------------------------------------------------ zeros


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [plain("neuron", (4, 2100), 0), plain("input", (9, 4), 1)])
def test_groups_that_underflow_has_killed_become_zeros(
    spec: Spec, dtype: torch.dtype, instruction_set: str
) -> None:
    """Only those of which all gates and all of the full factor are below the bound; NaN is not."""
    p = Parameter(torch.ones(spec.shape, dtype=dtype))
    optimizer = build([p], MOMENTUM, structure=spec.structure, lr=1e-30, penalty=0.0, momentum=0.9)
    step_with(optimizer, {p: torch.ones_like(p)})
    dim = 0 if spec.gate[0] > 1 else 1
    omega, *gates = optimizer.factors(p)
    for tensor in (omega, *gates):
        tensor.fill_(1e-14)
    omega.select(dim, 1).select(0, -1).fill_(1.0)
    gates[1].select(dim, 2).fill_(1.0)
    omega.select(dim, 3).select(0, 0).fill_(float("nan"))
    with torch.no_grad():
        p.copy_(omega * gates[0] * gates[1])
    step_with(optimizer, {p: torch.zeros_like(p)})
    tensors = [v for v in optimizer.state[p].values() if isinstance(v, Tensor) and v.ndim == 2]
    assert len(tensors) == 6
    for tensor in tensors:
        assert [bool(part.any()) for part in tensor.unbind(dim)[:4]] == [False, True, True, True]
    assert not bool(p.select(dim, 0).any())
    assert bool(p.select(dim, 3).isnan().any())


def test_without_flush_nothing_is_cleared(instruction_set: str) -> None:
    p = Parameter(torch.ones(3, 40))
    optimizer = build([p], MOMENTUM, lr=1e-30, penalty=0.0, flush=None)
    step_with(optimizer, {p: torch.ones_like(p)})
    for tensor in optimizer.factors(p):
        tensor.fill_(1e-14)
    with torch.no_grad():
        p.copy_(optimizer.factors(p)[0] * (optimizer.factors(p)[1] * optimizer.factors(p)[2]))
    step_with(optimizer, {p: torch.zeros_like(p)})
    assert all(bool(tensor.all()) for tensor in optimizer.factors(p))


# ------------------------------------------------------------------------- beside other backends


@native_bases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_native_and_blocked_agree_over_many_steps(dtype: torch.dtype, base: Base) -> None:
    runs = []
    for backend in ("native", "blocked"):
        weights = [weight(spec, dtype) for spec in SPECS]
        groups = [
            {"params": [p], "structure": spec.structure} for p, spec in zip(weights, SPECS, strict=True)
        ]
        run(build(groups, base, backend=backend, lr=LR, structure=None), range(20))
        runs.append([p.detach().float() for p in weights])
    for found, expected in zip(*runs, strict=True):
        assert (found - expected).norm() <= rounding(dtype, 20) * expected.norm()


@native_bases
@pytest.mark.parametrize("way", ["native to blocked", "blocked to native"])
def test_checkpoints_go_from_one_to_the_other(base: Base, way: str) -> None:
    """The state has the same keys, shapes, dtypes and strides, and what goes on is the same run."""
    first, second = way.split(" to ")
    spec = SPECS[8]
    p = weight(spec)
    optimizer = build([p], base, backend=first, structure=spec.structure, lr=LR)
    run(optimizer, range(4))
    q = copy.deepcopy(p)
    other = build([q], base, backend=second, structure=spec.structure, lr=LR)
    other.load_state_dict(through_disk(optimizer.state_dict()))
    assert identical(list(optimizer.state[p].values()), [other.state[q][k] for k in optimizer.state[p]])
    run(optimizer, range(4, 12))
    run(other, range(4, 12))
    assert optimizer.state[p].keys() == other.state[q].keys()
    for key, value in optimizer.state[p].items():
        assert value.dtype == other.state[q][key].dtype
        assert value.stride() == other.state[q][key].stride()
    assert float((p - q).detach().norm() / p.detach().norm()) <= rounding(torch.float32, 8)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many weights the extension stepped, call by call."""
    calls: list[int] = []
    step = native.step

    def counted(batch: native.Batch, *rest: Any) -> None:
        calls.append(len(batch.table.members))
        step(batch, *rest)

    monkeypatch.setattr(native, "step", counted)
    return calls


@every_spec
def test_taken_from_the_second_step_on(spec: Spec, taken: list[int]) -> None:
    run(build([weight(spec), weight(spec)], NATIVE[1], structure=spec.structure), range(3))
    assert taken == [2, 2]


def test_channels_last_filters_are_rows(taken: list[int]) -> None:
    last = {"memory_format": torch.channels_last}
    p = Parameter(weight(SPECS[4]).detach().contiguous(**last))
    optimizer = build([p], NATIVE[1], structure="filter")
    for step in range(3):
        step_with(optimizer, {p: draws(p, step).contiguous(**last)})
    assert taken == [1, 1]


@pytest.mark.parametrize("structure", [(0, 2), (1, 3)])
def test_scattered_groups_are_refused_or_left(structure: Any, taken: list[int]) -> None:
    start = weight(SPECS[11])
    left, expected = Parameter(start.detach().clone()), Parameter(start.detach().clone())
    run(build([left], NATIVE[1], structure=structure, backend="auto"), range(3))
    run(build([expected], NATIVE[1], structure=structure, backend="blocked"), range(3))
    assert identical([left.detach()], [expected.detach()])
    assert not any(taken)
    optimizer = build([start], NATIVE[1], structure=structure)
    with pytest.raises(ValueError, match=r"number 0: structure=\(.*scattered over memory.*'auto'"):
        run(optimizer, range(1))
    assert not optimizer.state


def test_a_gate_that_does_not_fit_is_not_overrun() -> None:
    """It is left to torch, which complains."""
    p = weight(SPECS[2])
    optimizer = build([p], NATIVE[1])
    run(optimizer, range(2))
    optimizer.state[p]["gate.1"] = optimizer.state[p]["gate.1"][:7].clone()
    with pytest.raises(RuntimeError, match="size of tensor"):
        run(optimizer, range(2, 3))


# ------------------------------------------------------------------------------ outside writes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [MANY[0], MANY[1], SPECS[3]], ids=lambda spec: str(spec.shape))
def test_every_single_write_is_seen_at_once(spec: Spec, dtype: torch.dtype) -> None:
    """`p.data` leaves no trace but the value; groups that were not written keep gates and bits."""
    p, twin = weight(spec, dtype), weight(spec, dtype)
    optimizer, other = (
        build([q], NATIVE[1], structure=spec.structure, lr=1e-6, penalty=0.0) for q in (p, twin)
    )
    for each in (optimizer, other):
        run(each, range(2))
    group = spec.group().flatten()
    places = torch.randint(0, p.numel(), (3,), generator=seeded(5))
    p.data.view(-1)[places] = 0.75
    for each in (optimizer, other):
        run(each, range(2, 3))
    found = p.detach().flatten()[places].float()
    torch.testing.assert_close(found, torch.full((3,), 0.75), rtol=1e-2, atol=0)
    untouched = ~torch.isin(group, group[places])
    assert torch.equal(p.detach().flatten()[untouched], twin.detach().flatten()[untouched])
    changed = torch.zeros(int(group.max()) + 1, dtype=torch.bool)
    changed[group[places]] = True
    for gate, before in zip(optimizer.factors(p)[1:], other.factors(twin)[1:], strict=True):
        same = (gate == before).flatten()
        assert bool(same[~changed].all())
    assert bool(untouched.any())


def test_edited_factors_are_stepped_and_not_set_back() -> None:
    p = weight(SPECS[2])
    optimizer = build([p], NATIVE[1], lr=1e-7, momentum=0.0, penalty=0.0)
    run(optimizer, range(4))
    before = p.detach().clone()
    optimizer.factors(p)[1].mul_(2)
    run(optimizer, range(4, 5))
    torch.testing.assert_close(p.detach(), 2 * before, rtol=1e-4, atol=1e-6)
