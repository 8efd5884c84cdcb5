"""A running plain optimizer can be switched over to groups that share gates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.convert import MOMENTS
from tests.helpers import BASES, Base, Lion, assert_same_state, step_with
from tests.reference.gates import CASES
from tests.structure.common import draw, groups, loss, parameters, train

CONVERTED = [base for base in BASES if base.cls is not Lion]
converted_bases = pytest.mark.parametrize("base", CONVERTED, ids=lambda base: base.name)
GATHERING = ("SGD-momentum", "SGD-nesterov", "SGD-dampening", "Adam", "Adamax", "RMSprop-centered")
# What they gather linearly, and what by size.
SUMS = {
    torch.optim.SGD: {"momentum_buffer"},
    torch.optim.Adam: {"exp_avg"},
    torch.optim.Adamax: {"exp_avg"},
    torch.optim.RMSprop: {"grad_avg"},
}
SIZES = {"exp_avg_sq", "exp_inf", "square_avg"}


def plain_run(base: Base, lr: float | None = None) -> tuple[list[Parameter], torch.optim.Optimizer]:
    params = parameters()
    options = {**base.options} if lr is None else {**base.options, "lr": lr}
    if base.takes("weight_decay"):
        options["weight_decay"] = 0.0
    plain = base.cls([{"params": [p]} for p in params], **options)
    for _ in range(4):
        plain.zero_grad()
        loss(params).backward()
        plain.step()
    return params, plain


def wrapped(params: list[Parameter], plain: torch.optim.Optimizer) -> DWFOptimizer:
    for group, wanted in zip(plain.param_groups, groups(params), strict=True):
        group["structure"] = wanted["structure"]
    return DWFOptimizer.wrap(plain, penalty=0.0, flush=None, min_ndim=1)


@pytest.mark.parametrize("base", [b for b in BASES if b.name in GATHERING], ids=lambda base: base.name)
def test_converted_state_is_what_groups_would_have_gathered(base: Base) -> None:
    """At lr 0 nothing moves: full factors have gathered just that, and gates the sum of it."""
    converted = wrapped(*plain_run(base, lr=0.0))
    params = parameters()
    options = {**base.options, "lr": 0.0}
    gathered = DWFOptimizer(
        groups(params), base=base.cls, penalty=0.0, flush=None, min_ndim=1, **options
    )
    train(params, gathered, 4)
    states, expected = (each.state_dict()["state"] for each in (converted, gathered))
    for index, case in enumerate(CASES):
        assert states[index].keys() == expected[index].keys()
        for key, value in expected[index].items():
            found = states[index][key]
            name = key.rpartition(".")[2]
            of_gate = key.startswith("base.gate") and isinstance(value, Tensor) and value.ndim > 0
            if not of_gate or name in SUMS[base.cls]:
                torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-14)
            elif name in SIZES:
                # What a group's elements could have had together at most.
                assert found.shape == value.shape, (case.structure, key)
                assert bool((found >= value * (1 - 1e-12)).all()), (case.structure, key)


@converted_bases
def test_a_wrapped_run_goes_on_where_it_was(base: Base) -> None:
    params, plain = plain_run(base)
    before = [p.detach().clone() for p in params]
    optimizer = wrapped(params, plain)
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    train(params, optimizer, 3)
    assert all(
        bool(p.isfinite().all()) and not torch.equal(p, b) for p, b in zip(params, before, strict=True)
    )
    steps = [s["base.gate.0.step"] for s in optimizer.state.values() if "base.gate.0.step" in s]
    assert all(float(step) == 7 for step in steps)


@converted_bases
def test_loading_the_bases_checkpoint_is_wrapping(base: Base) -> None:
    params, plain = plain_run(base)
    others = parameters()
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    checkpoint = plain.state_dict()
    options = {**base.options, "lr": 0.5}
    loaded = DWFOptimizer(groups(others), base=base.cls, penalty=0.0, flush=None, min_ndim=1, **options)
    loaded.load_state_dict(checkpoint)
    assert_same_state(wrapped(params, plain), loaded)


def test_a_base_whose_rule_for_groups_is_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOMENTS, "Lion", {"average": lambda value, factor, others: value * others})
    p = Parameter(draw((4, 3), 1, torch.float32))
    lion = Lion([p], lr=0.01)
    step_with(lion, {p: torch.ones_like(p)})
    assert DWFOptimizer.wrap(lion, penalty=0.0).state[p]["base.0.average"].shape == p.shape
    with pytest.raises(ValueError, match=r"Lion's state 'average' to gates.*MERGES"):
        DWFOptimizer.wrap(lion, penalty=0.0, structure="neuron")
