"""A checkpoint may be loaded into another storage where that is exact."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer
from dwf_optim.storage.parity import KNOWN, ODD
from tests.helpers import BASES, Base, seeded, step_with
from tests.storage.problem import Pull, make

BUILT_IN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
BY_NAME = {base.name: base for base in BASES}
CASES = [
    (base, source, target, depth)
    for base in BASES
    for depth in (2, 3, 4)
    for source, target in [
        ("tied", "full"),
        ("tied", "ephemeral"),
        ("ephemeral", "tied"),
        ("ephemeral", "full"),
    ]
    if base.cls in BUILT_IN or "ephemeral" not in (source, target)
    if base.name != "Lion" or depth % 2 == 1  # refused, see below
]


def advance(problem: Pull, optimizer: Optimizer, steps: range) -> None:
    for problem.time in steps:
        optimizer.zero_grad()
        problem.loss(problem.weights).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("base", "source", "target", "depth"), CASES, ids=lambda x: getattr(x, "name", x)
)
def test_a_run_goes_on_in_another_storage(base: Base, source: str, target: str, depth: int) -> None:
    problem = Pull()
    optimizer = make(problem, base, depth, source)
    advance(problem, optimizer, range(13))  # a push has just sent roots across zero
    other = Pull()
    for weight, value in zip(other.weights, problem.weights, strict=True):
        weight.data.copy_(value.data)
    switched = make(other, base, depth, target)
    switched.load_state_dict(deepcopy(optimizer.state_dict()))
    assert switched.param_groups[0]["storage"] == target
    assert all(torch.equal(a, b) for a, b in zip(problem.weights, other.weights, strict=True))
    advance(problem, optimizer, range(13, 26))
    advance(other, switched, range(13, 26))
    for weight, expected in zip(other.weights, problem.weights, strict=True):
        # As between the storages themselves.
        assert (weight - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("target", ["tied", "ephemeral"])
def test_factors_that_went_their_own_way_are_refused(target: str) -> None:
    weights = [Parameter(torch.ones(2, 3)) for _ in range(2)]
    full = DWFOptimizer(weights[:1], 0.1, penalty=1e-3)
    step_with(full, {weights[0]: torch.ones(2, 3)})
    lean = DWFOptimizer(weights[1:], 0.1, penalty=1e-3, storage=target)
    with pytest.raises(ValueError, match=f"storage='full', this optimizer storage='{target}'.*one root"):
        lean.load_state_dict(full.state_dict())
    # Before the first step there are no factors yet.
    lean.load_state_dict(DWFOptimizer(weights[:1], 0.1, penalty=1e-3).state_dict())
    assert lean.param_groups[0]["storage"] == target


def test_even_depth_with_a_base_of_unknown_parity_is_refused() -> None:
    problem, other = Pull(), Pull()
    tied = make(problem, BY_NAME["Lion"], 4, "tied")
    advance(problem, tied, range(2))
    with pytest.raises(ValueError, match=r"even depth 4.*what Lion keeps is not known.*storage='tied'"):
        make(other, BY_NAME["Lion"], 4, "full").load_state_dict(tied.state_dict())


@pytest.mark.parametrize(
    "base", [b for b in BASES if b.cls.__name__ in KNOWN], ids=lambda base: base.name
)
def test_parities_are_those_of_the_base(base: Base) -> None:
    """Run on the mirror image, odd state is mirrored and even state is not."""
    start = torch.randn(40, generator=seeded(1), dtype=torch.float64)
    grads = torch.randn(8, 40, generator=seeded(2), dtype=torch.float64)
    states = []
    for sign in (1, -1):
        p = nn.Parameter(sign * start)
        optimizer = base.cls([p], **base.options)
        for grad in grads:
            step_with(optimizer, {p: sign * grad})
        states.append(optimizer.state[p])
    one, two = states
    for key, value in one.items():
        if isinstance(value, torch.Tensor) and value.shape == start.shape:
            torch.testing.assert_close(two[key], -value if key in ODD else value, rtol=1e-12, atol=0)
