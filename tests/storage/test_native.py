"""The kernel of one root a weight, in float32, does what explicit balanced factors do in float64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.contract.common import rounding
from tests.helpers import BASES, Base, seeded, step_with
from tests.reference.autograd import ExplicitFactors
from tests.storage.problem import PENALTY, Pull, even_depths_allowed, make, options_of

STEPS = 50
# As many roundings as the 1e-12 that is asked of float64 has.
TOLERANCE = 1e-12 * torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
NATIVE = [base for base in BASES if base.cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)]
every_storage = pytest.mark.parametrize("storage", ["tied", "ephemeral"])


def exact(problem: Pull, optimizer: DWFOptimizer, base: Base) -> tuple[Pull, ExplicitFactors]:
    """The same problem and start in float64."""
    twin = Pull()
    twin.targets = [target.double() for target in problem.targets]
    factors = [[f.double() for f in optimizer.factors(w)] for w in problem.weights]
    return twin, ExplicitFactors(factors, twin.loss, PENALTY, base.cls, **options_of(base))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


@every_storage
@pytest.mark.parametrize("depth", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("base", NATIVE, ids=lambda base: base.name)
def test_over_many_steps_and_across_zero(base: Base, depth: int, storage: str) -> None:
    problem = Pull(torch.float32)
    optimizer = make(problem, base, depth, storage, backend="native", flush="dead")
    twin, truth = exact(problem, optimizer, base)
    crossed = 0
    for step in range(STEPS):
        problem.time = twin.time = step
        before = [fs[0].detach().clone() for fs in truth.factors]
        optimizer.zero_grad()
        problem.loss(problem.weights).backward()
        optimizer.step()
        truth.step()
        found, expected = flat(problem.weights), flat(truth.weights())
        assert (found - expected).norm() <= TOLERANCE * expected.norm(), step
        crossed += sum(int((a * fs[0] < 0).sum()) for a, fs in zip(before, truth.factors, strict=True))
    assert crossed >= 3


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
