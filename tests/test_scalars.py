"""0-d parameters with factors: what a base counts has their shape too, and is no element of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, sparsify
from tests.helpers import BASES, Base, step_with

COUNTING = [base for base in BASES if base.name in ("Adam", "AdamW", "NAdam", "RAdam", "ASGD")]
every_counting = pytest.mark.parametrize("base", COUNTING, ids=lambda base: base.name)
STEPS = 3


def stepped(base: Base, scalar: Parameter, **options: object) -> DWFOptimizer:
    optimizer = DWFOptimizer(
        [scalar], base=base.cls, min_ndim=0, penalty=0.0, **{**base.options, **options}
    )
    for step in range(STEPS):
        step_with(optimizer, {scalar: torch.full_like(scalar, 0.1 * (step + 1))})
    return optimizer


def counters(optimizer: DWFOptimizer, scalar: Tensor) -> list[Tensor]:
    state = optimizer.state[scalar]
    found = [state[f"base.{d}.step"] for d in range(3)]
    assert [float(counter) for counter in found] == 3 * [float(STEPS)]
    return found


def assert_cleared(optimizer: DWFOptimizer, scalar: Tensor) -> None:
    """Factors and moments are zero; what is counted, and the rates made of it, are not."""
    counted = ("step", "mu_product", "eta", "mu")
    for key, value in optimizer.state[scalar].items():
        assert bool(value != 0) == (key.rpartition(".")[2] in counted), key


@every_counting
def test_sparsify_keeps_the_count(base: Base) -> None:
    scalar = Parameter(torch.tensor(0.5))
    optimizer = stepped(base, scalar)
    counters(optimizer, scalar)
    sparsify(nn.ParameterList([scalar]), optimizer, threshold=10.0)
    counters(optimizer, scalar)
    assert_cleared(optimizer, scalar)
    step_with(optimizer, {scalar: torch.ones_like(scalar)})
    assert scalar == 0


@every_counting
def test_a_zero_from_outside_keeps_the_count(base: Base) -> None:
    scalar = Parameter(torch.tensor(0.5))
    optimizer = stepped(base, scalar)
    with torch.no_grad():
        scalar.zero_()
    optimizer.factors(scalar)
    counters(optimizer, scalar)
    assert_cleared(optimizer, scalar)


@every_counting
def test_underflow_keeps_the_count(base: Base) -> None:
    scalar = Parameter(torch.tensor(0.5))
    optimizer = stepped(base, scalar, lr=1e-30, lr_scale=1.0)
    for factor in optimizer.factors(scalar):
        factor.fill_(1e-20)
    step_with(optimizer, {scalar: torch.zeros_like(scalar)})
    assert [float(optimizer.state[scalar][f"base.{d}.step"]) for d in range(3)] == 3 * [STEPS + 1.0]
    assert scalar == 0


@every_counting
def test_a_change_of_dtype_leaves_the_count_its_own(base: Base) -> None:
    scalar = Parameter(torch.tensor(0.5))
    optimizer = stepped(base, scalar)
    dtypes = {counter.dtype for counter in counters(optimizer, scalar)}
    scalar.data = scalar.data.double()
    assert {factor.dtype for factor in optimizer.factors(scalar)} == {torch.float64}
    assert {counter.dtype for counter in counters(optimizer, scalar)} == dtypes


@every_counting
def test_a_stepped_base_is_wrapped_with_its_scalars(base: Base) -> None:
    scalar = Parameter(torch.tensor(0.5))
    plain = base.cls([scalar], **base.options)
    for _ in range(STEPS):
        step_with(plain, {scalar: torch.tensor(0.1)})
    counters(DWFOptimizer.wrap(plain, penalty=0.0, min_ndim=0), scalar)
