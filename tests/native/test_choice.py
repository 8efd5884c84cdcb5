"""Which weights the extension steps, which are left to torch, and that either can take over."""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.step import native
from dwf_optim.step.native_reader import reader
from dwf_optim.storage import STORAGES
from tests.contract.common import rounding, through_disk
from tests.helpers import BASES, Base, identical, seeded, step_with

NATIVE = [
    base for base in BASES if base.name.startswith(("SGD", "Adam-", "AdamW")) or base.name == "Adam"
]
every_storage = pytest.mark.parametrize("storage", list(STORAGES))
native_bases = pytest.mark.parametrize("base", NATIVE, ids=lambda base: base.name)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many weights the extension stepped, call by call."""
    calls: list[int] = []
    step, step_slots = native.step, native._step_table

    def counted(batch: native.Batch, *rest: Any, **options: Any) -> Any:
        calls.append(len(batch.table.members))
        return step(batch, *rest, **options)

    def counted_slots(batch: native.Batch, *rest: Any) -> None:
        calls.append(len(batch.table.members))
        step_slots(batch, *rest)

    monkeypatch.setattr(native, "step", counted)
    monkeypatch.setattr(native, "_step_table", counted_slots)
    return calls


def draws(p: Tensor, step: int) -> Tensor:
    return torch.randn(p.shape, generator=seeded(step)).to(p.dtype)


def run(optimizer: DWFOptimizer, steps: range) -> None:
    for step in steps:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        step_with(optimizer, {p: draws(p, step) for p in weights})


def weight(dtype: torch.dtype = torch.float32) -> Parameter:
    return Parameter((torch.randn(7, 5, generator=seeded(1)) * 0.5).to(dtype))


def build(params: Any, base: Base, **options: Any) -> DWFOptimizer:
    options = {"penalty": 1e-3, "lr_scale": 1.0, **base.options, **options}
    return DWFOptimizer(params, base=base.cls, **options)


@native_bases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("storage", ["full", "tied"])
def test_taken_from_the_second_step_on(
    base: Base, dtype: torch.dtype, storage: str, taken: list[int]
) -> None:
    """The first makes the base's state, where it has one."""
    run(build([weight(dtype), weight(dtype)], base, storage=storage), range(3))
    assert [n for n in taken if n] == ([2, 2, 2] if base.name == "SGD" else [2, 2])


@native_bases
def test_without_a_root_taken_all_the_same(base: Base, taken: list[int]) -> None:
    run(build([weight(), weight()], base, storage="ephemeral"), range(3))
    assert [n for n in taken if n] == ([2, 2, 2] if base.name == "SGD" else [2, 2])


@pytest.mark.parametrize("base", [b for b in BASES if b not in NATIVE], ids=lambda base: base.name)
def test_other_bases_are_left_to_torch(base: Base, taken: list[int]) -> None:
    run(build([weight()], base), range(3))
    assert not any(taken)
    with pytest.raises(ValueError, match=f"cannot step this group: the base is {base.cls.__name__}"):
        run(build([weight()], base, backend="native"), range(1))


class Halved(torch.optim.SGD):
    """A subclass that steps differently."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] / 2)


def test_a_subclass_steps_its_own_way(taken: list[int]) -> None:
    halved, plain = weight(), weight()
    run(build([halved], Base("Halved", Halved, {"lr": 0.02}, "sgd")), range(4))
    assert not any(taken)
    run(build([plain], BASES[0], lr=0.01), range(4))
    torch.testing.assert_close(halved, plain, rtol=0, atol=rounding(torch.float32, 4))


@native_bases
@every_storage
def test_native_and_blocked_agree_over_many_steps(base: Base, storage: str) -> None:
    runs = [weight(), weight()]
    for p, backend in zip(runs, ("native", "blocked"), strict=True):
        run(build([p], base, backend=backend, storage=storage), range(30))
    error = (runs[0] - runs[1]).norm() / runs[1].norm()
    assert 0 < error <= rounding(torch.float32, 30) or torch.equal(*runs)


@native_bases
@every_storage
@pytest.mark.parametrize("way", ["native to blocked", "blocked to native"])
def test_checkpoints_go_from_one_to_the_other(base: Base, way: str, storage: str) -> None:
    """The state has the same keys, shapes and dtypes, and what goes on is the same run."""
    first, second = way.split(" to ")
    p = weight()
    optimizer = build([p], base, backend=first, storage=storage)
    run(optimizer, range(4))
    q = copy.deepcopy(p)
    other = build([q], base, backend=second, storage=storage)
    other.load_state_dict(through_disk(optimizer.state_dict()))
    assert identical(
        [v for v in optimizer.state[p].values()], [other.state[q][k] for k in optimizer.state[p]]
    )
    run(optimizer, range(4, 12))
    run(other, range(4, 12))
    assert optimizer.state[p].keys() == other.state[q].keys()
    for key, value in optimizer.state[p].items():
        assert value.dtype == other.state[q][key].dtype
        assert value.stride() == other.state[q][key].stride()
    assert float((p - q).detach().norm() / p.detach().norm()) <= rounding(torch.float32, 8)


def test_a_mixed_group_is_split(taken: list[int]) -> None:
    """float64 and 0-gradient weights beside those that fit; biases are the base's own."""
    mixed = [weight(), weight(torch.float64), Parameter(torch.ones(3)), weight(torch.bfloat16)]
    alone = [copy.deepcopy(p) for p in mixed]
    base = NATIVE[1]
    run(build(mixed, base), range(3))
    assert [n for n in taken if n] == [2, 2]
    for p in alone:
        run(build([p], base), range(3))
    assert identical([p.detach() for p in mixed], [p.detach() for p in alone])
    with pytest.raises(ValueError, match=r"cannot step parameter number 1: it is of torch.float64"):
        run(build([copy.deepcopy(p) for p in mixed], base, backend="native"), range(1))


class Tagged(Tensor):
    pass


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s.update({"base.0.extra": torch.zeros(7, 5)}), "does not make: .*base.0.extra"),
        (lambda s: s.update({"factor.1": s["factor.1"].as_subclass(Tagged)}), "factor.1 is a Tagged"),
        (lambda s: s.update({"factor.1": s["factor.1"].double()}), "factor.1 is of torch.float64"),
    ],
)
def test_a_state_that_the_extension_does_not_know_is_refused_or_left(
    spoil: Any, reason: str, taken: list[int]
) -> None:
    p = weight()
    optimizer = build([p], NATIVE[1], backend="native")
    run(optimizer, range(2))
    before = p.detach().clone()
    spoil(optimizer.state[p])
    with pytest.raises(ValueError, match=f"parameter number 0: its .*{reason}"):
        run(optimizer, range(2, 3))
    assert torch.equal(p, before)


def test_rate_zero_and_back(taken: list[int]) -> None:
    p = weight()
    optimizer = build([p], NATIVE[1], backend="native")
    run(optimizer, range(2))
    before = [p.detach().clone(), *(f.clone() for f in optimizer.factors(p))]
    optimizer.param_groups[0]["lr"] = 0.0
    run(optimizer, range(2, 4))
    assert identical([p.detach(), *optimizer.factors(p)], before)
    optimizer.param_groups[0]["lr"] = 0.1
    run(optimizer, range(4, 5))
    assert [n for n in taken if n] == [1, 1]


def test_the_version_of_a_weight_tells_of_the_step() -> None:
    p = weight()
    optimizer = build([p], NATIVE[1])
    run(optimizer, range(2))
    version = p._version
    run(optimizer, range(2, 3))
    assert p._version > version


@pytest.mark.parametrize("native_first", [True, False])
def test_a_gradient_that_is_in_use_is_not_touched(native_first: bool) -> None:
    p = weight()
    optimizer = build([p], NATIVE[1])
    run(optimizer, range(2))
    grad = draws(p, 5)
    kept = grad.clone()
    step_with(optimizer, {p: grad})
    assert torch.equal(grad, kept)
    assert p.grad is grad


def test_a_weight_that_moves_in_memory_is_followed() -> None:
    p, twin = weight(), weight()
    optimizer, other = build([p], NATIVE[1]), build([twin], NATIVE[1])
    for step in range(6):
        run(optimizer, range(step, step + 1))
        run(other, range(step, step + 1))
        p.data = p.data.clone()
        for key, value in optimizer.state[p].items():
            if step % 2:
                optimizer.state[p][key] = value.clone()
            else:
                value.data = value.data.clone()
    assert identical([p.detach()], [twin.detach()])


@every_storage
@pytest.mark.parametrize("scattered", [True, False])
def test_every_single_write_is_seen_at_once(scattered: bool, storage: str) -> None:
    """`p.data` leaves no trace but the value."""
    p = Parameter(torch.randn(200, 300, generator=seeded(1)))
    optimizer = build([p], NATIVE[1], lr=1e-6, storage=storage)
    run(optimizer, range(2))
    rows = torch.randint(0, 200, (5,), generator=seeded(2)) if scattered else torch.arange(200)
    columns = torch.randint(0, 300, (5,), generator=seeded(3)) if scattered else torch.arange(200)
    before = p.detach().clone()
    p.data[rows, columns] = 0.75
    run(optimizer, range(2, 3))
    torch.testing.assert_close(
        p.detach()[rows, columns], torch.full(rows.shape, 0.75), rtol=1e-3, atol=0
    )
    untouched = torch.ones_like(p, dtype=torch.bool)
    untouched[rows, columns] = False
    torch.testing.assert_close(p.detach()[untouched], before[untouched], rtol=1e-3, atol=1e-4)


def test_edited_factors_are_stepped_and_not_set_back() -> None:
    p = weight()
    optimizer = build([p], NATIVE[1], lr=1e-7, momentum=0.0, penalty=0.0)
    run(optimizer, range(2))
    factors = optimizer.factors(p)
    run(optimizer, range(2, 4))
    before = p.detach().clone()
    factors[0].mul_(2)
    run(optimizer, range(4, 5))
    torch.testing.assert_close(p.detach(), 2 * before, rtol=1e-4, atol=1e-6)


def test_tensors_read_by_their_attributes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """How tensors are read where torch's C functions are not found."""
    runs = []
    for by_functions in (True, False):
        found = reader(by_functions)
        assert found.by_functions is by_functions
        monkeypatch.setattr(native, "reader", lambda found=found: found)
        p = Parameter(
            torch.randn(4, 3, 5, 2, generator=seeded(1)).contiguous(memory_format=torch.channels_last)
        )
        run(build([p, q := weight(torch.bfloat16)], NATIVE[1], backend="native"), range(4))
        runs.append([p.detach(), q.detach()])
    assert identical(*runs)


def test_without_the_extension(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, and only of bases that the extension would step."""
    monkeypatch.setattr(native, "_native", None)
    native._say_that_it_is_missing.cache_clear()
    with caplog.at_level(logging.WARNING, logger="dwf_optim"):
        run(build([weight()], BASES[-1]), range(2))
        assert not caplog.records
        p, q = weight(), weight()
        run(build([p], NATIVE[1]), range(2))
        run(build([q], NATIVE[1], backend="blocked"), range(2))
    assert len(caplog.records) == 1
    assert "extension is not installed" in caplog.text
    assert identical([p.detach()], [q.detach()])
    with pytest.raises(ValueError, match=r"needs the compiled extension.*use backend='auto'"):
        build([weight()], NATIVE[1], backend="native")


def test_a_forked_process_steps_with_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    try:
        p = Parameter(torch.randn(600, 700, generator=seeded(1)))
        q = copy.deepcopy(p)
        optimizer, other = build([p], NATIVE[1]), build([q], NATIVE[1])
        run(optimizer, range(2))
        run(other, range(2))
        grad = draws(p, 2)
        child = os.fork()
        if child == 0:  # nothing of torch's own threads, which do not survive a fork either
            p.grad = grad
            optimizer.step()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        step_with(optimizer, {p: grad})
        step_with(other, {q: grad})
        assert identical([p.detach()], [q.detach()])
    finally:
        torch.set_num_threads(1)
