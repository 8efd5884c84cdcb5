"""The kernel of one root a weight, in float32, on runs across zero and after outside writes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.contract.common import rounding
from tests.helpers import BASES, Base, seeded, step_with
from tests.native.cases import Case
from tests.native.test_one_step import assert_step, exact_step
from tests.native.truth import Setting
from tests.reference.autograd import ExplicitFactors
from tests.storage.problem import PENALTY, Pull, even_depths_allowed, make, options_of

STEPS = 50
NATIVE = [base for base in BASES if base.cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)]
every_storage = pytest.mark.parametrize("storage", ["tied", "ephemeral"])


def in_float64(problem: Pull, optimizer: DWFOptimizer, base: Base) -> tuple[Pull, ExplicitFactors]:
    """The same problem and start, which crosses zero where float32 does but for roundings."""
    twin = Pull()
    twin.targets = [target.double() for target in problem.targets]
    factors = [[f.double() for f in optimizer.factors(w)] for w in problem.weights]
    return twin, ExplicitFactors(factors, twin.loss, PENALTY, base.cls, **options_of(base))


def setting_of(base: Base) -> Setting:
    options = options_of(base)
    beta1, beta2 = options.pop("betas", (0.9, 0.999))
    options.pop("weight_decay")
    return Setting(base.cls.__name__, penalty=PENALTY, beta1=beta1, beta2=beta2, **options)


@every_storage
@pytest.mark.parametrize("depth", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("base", NATIVE, ids=lambda base: base.name)
def test_every_step_of_a_run_across_zero(base: Base, depth: int, storage: str) -> None:
    """Each from the numbers that the one before has left, within `tests.native.root_truth`'s bounds.

    Of the run as a whole there is no bound of that kind: at a root r near zero a rounding U of the old
    root r' is a relative error U r' / r, and from there each sign of a gradient decides where Adam goes.
    That exact roots do what balanced factors do is held in float64, in `test_equal_to_balanced`.
    """
    problem = Pull(torch.float32)
    optimizer = make(problem, base, depth, storage, backend="native", flush="dead")
    twin, truth = in_float64(problem, optimizer, base)
    crossed = compared = 0
    for step in range(STEPS):
        problem.time = twin.time = step
        before = [fs[0].detach().clone() for fs in truth.factors]
        truth.step()
        crossed += sum(int((a * fs[0] < 0).sum()) for a, fs in zip(before, truth.factors, strict=True))
        optimizer.zero_grad()
        problem.loss(problem.weights).backward()
        if step == 0:  # torch's: it makes the base's state
            optimizer.step()
            continue
        case = Case(setting_of(base), storage, depth, step + 1, problem.weights, optimizer)
        expected = [exact_step(case, p) for p in problem.weights]
        optimizer.step()
        compared += assert_step(case, expected)
    assert crossed >= 3
    # The others are within a rounding of zero, on a side that nobody can tell.
    assert compared >= 0.99 * (STEPS - 1) * sum(p.numel() for p in problem.weights)


@every_storage
@pytest.mark.parametrize("depth", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_an_outside_write_is_stepped_from_there_and_a_zero_is_for_good(
    name: str, depth: int, storage: str
) -> None:
    base = {base.name: base for base in NATIVE}[name]
    weight = Parameter(torch.randn(40, 30, generator=seeded(1)))
    fresh = Parameter(torch.empty(40, 30))
    options = {"penalty": 1e-3, "lr_scale": 1.0, "depth": depth, "storage": storage}
    with even_depths_allowed():
        optimizer = DWFOptimizer([weight], base=base.cls, backend="native", **base.options, **options)
    for step in range(3):
        step_with(optimizer, {weight: grad(step)})
    written = torch.randn(40, 30, generator=seeded(2))
    written[torch.rand(40, 30, generator=seeded(3)) < 0.3] = 0
    weight.data.copy_(written)  # without a trace
    state = {key: value.clone() for key, value in optimizer.state[weight].items() if key != "root"}
    step_with(optimizer, {weight: grad(3)})

    # The same from a new optimizer that was given that weight and that state of the base.
    fresh.data.copy_(written)
    with even_depths_allowed():
        other = DWFOptimizer([fresh], base=base.cls, backend="reference", **base.options, **options)
    other.factors(fresh)
    other.state[fresh].update(state)
    for key, value in other.state[fresh].items():
        if key in state and value.shape == written.shape:
            value.masked_fill_(written == 0, 0)
    step_with(other, {fresh: grad(3)})
    torch.testing.assert_close(weight, fresh, rtol=rounding(torch.float32, 1), atol=0)

    for step in range(4, 8):
        step_with(optimizer, {weight: grad(step)})
    assert not weight[written == 0].any()
    for value in optimizer.state[weight].values():
        if value.shape == weight.shape:
            assert not value[written == 0].any()


def grad(step: int) -> Tensor:
    return torch.randn(40, 30, generator=seeded(10 + step))
