"""A step on groups is the base's step on explicit full factors and gates, whatever the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.step import blocked
from tests.helpers import BASES, Base, every_base
from tests.reference.autograd import ExplicitFactors
from tests.reference.gates import CASES, ExplicitGates
from tests.structure.common import PENALTY, draw, groups, loss, make, parameters, train

STEPS = 20
# As tests/test_equivalence.py: some dozens of roundings a step, amplified by a small factor.
TOLERANCE = 1e-12
BY_NAME = {base.name: base for base in BASES}


@pytest.fixture(params=["reference", "blocked"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(blocked, "BLOCK", 7)
    return request.param


def assert_equal_to_autograd(
    base: Base, depth: int, backend: str, penalties: Sequence[float] | None = None, **more: Any
) -> None:
    own = {"weigh_by_size": more.pop("weigh_by_size", False)}
    options = {**base.options, **more}
    if base.takes("weight_decay"):
        options["weight_decay"] = 0.0
    sign = -1 if options.get("maximize") else 1

    def objective(weights: Sequence[Tensor]) -> Tensor:
        return sign * loss(weights)

    params = parameters()
    start = [p.detach().clone() for p in params]
    layouts = [p.stride() for p in params]
    # The automatic scale of groups is 1.
    optimizer = make(params, base, depth=depth, backend=backend, **options, **own)
    truth = ExplicitGates(
        CASES, params, objective, penalties or [PENALTY] * len(CASES), depth, base.cls, **options
    )
    for step in range(STEPS):
        optimizer.zero_grad()
        objective(params).backward()
        optimizer.step()
        truth.step()
        for case, p, expected in zip(CASES, params, truth.weights(), strict=True):
            error = (p - expected).norm() / expected.norm()
            assert error <= TOLERANCE, (step, case.structure)
    for p, before, layout in zip(params, start, layouts, strict=True):
        assert (p - before).norm() > 1e-3 * before.norm()
        assert p.stride() == layout


@pytest.mark.parametrize("depth", [2, 3])
@every_base
def test_every_base_and_structure_equals_explicit_autograd(base: Base, depth: int, backend: str) -> None:
    assert_equal_to_autograd(base, depth, backend)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "Lion"])
def test_by_default(name: str) -> None:
    """What "auto" comes to, which takes the extension for tensors in float32 (tests/native)."""
    assert_equal_to_autograd(BY_NAME[name], 3, "auto")


@pytest.mark.parametrize("depth", [4, 8])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_deeper(name: str, depth: int, backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], depth, backend)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_weighed_by_the_root_of_a_groups_size(name: str, backend: str) -> None:
    penalties = [PENALTY * case.size**0.5 for case in CASES]
    assert_equal_to_autograd(BY_NAME[name], 3, backend, penalties, weigh_by_size=True)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "Rprop"])
def test_maximize_climbs_the_objective_less_the_penalty(name: str, backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], 3, backend, maximize=True)


@pytest.mark.parametrize("flag", [{"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("name", ["SGD-momentum", "Adam", "AdamW", "Adagrad"])
def test_implementation_flags_reach_the_base(name: str, flag: dict[str, bool], backend: str) -> None:
    assert_equal_to_autograd(BY_NAME[name], 3, backend, **flag)


def test_elementwise_tensors_beside_groups(backend: str) -> None:
    """Each kind of tensor in one optimizer goes the way that it goes alone."""
    base = BY_NAME["SGD-momentum"]
    mixed, alone = parameters(), parameters()
    single, single_alone = Parameter(draw((4, 3), 1)), Parameter(draw((4, 3), 1))
    options = {"penalty": PENALTY, "flush": None, "lr_scale": 1.0, "min_ndim": 1, "backend": backend}
    optimizer = DWFOptimizer(
        [*groups(mixed), {"params": [single]}], base=base.cls, **base.options, **options
    )
    separate = make(alone, base, backend=backend)
    truth = ExplicitFactors(
        [optimizer.factors(single)],
        lambda weights: loss([*parameters(), *weights]),
        PENALTY,
        base.cls,
        **base.options,
    )
    for _ in range(5):
        optimizer.zero_grad()
        loss([*mixed, single]).backward()
        optimizer.step()
        truth.step()
    train(alone, separate, 5)
    assert all(torch.equal(p, q) for p, q in zip(mixed, alone, strict=True))
    (expected,) = truth.weights()
    assert (single - expected).norm() <= TOLERANCE * expected.norm()
    assert not torch.equal(single, single_alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_function_is_kept_exactly_at_the_start(dtype: torch.dtype) -> None:
    params = parameters(dtype=dtype)
    before = [p.detach().clone() for p in params]
    optimizer = make(params, BY_NAME["SGD-momentum"], lr=0.0)
    for case, p in zip(CASES, params, strict=True):
        omega, *gates = optimizer.factors(p)
        assert omega.dtype == torch.float32
        assert torch.equal(omega, p.float())
        assert all(bool((gate == 1).all()) and gate.numel() == case.groups for gate in gates)
        assert len(gates) == 2
    loss(params).backward()
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
