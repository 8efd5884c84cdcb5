"""The compiled step and every storage on numbers as the strategies draw them; a resumed run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.storage import STORAGES
from dwf_optim.testing import (
    Objective,
    assert_balanced,
    assert_resume_exact,
    depths,
    factors,
    gamma,
    objectives,
    penalties,
    weights,
)
from tests.helpers import BASES, Base, step_with
from tests.native import cases, gate_cases, test_gates
from tests.native.test_one_step import assert_step, exact_step
from tests.reference.autograd import gradients, leave_one_out, multiply
from tests.storage.problem import even_depths_allowed

SHAPE = (3, 4)
SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("storage", list(STORAGES))
@given(data=st.data(), seed=SEEDS, depth=depths())
def test_the_native_step_is_exact_to_its_bound(
    storage: str, data: st.DataObject, seed: int, depth: int
) -> None:
    """f_d' = base(f_d, g prod_{e != d} f_e + (2 lambda/D) f_d), each number within its own roundings.

    The bounds are those of `tests.native.truth`, which follow the kernel rounding by rounding.
    """
    case = cases.draw(
        seed, storage, depth=depth, dtype=torch.float32, layout="contiguous", shapes=[SHAPE]
    )
    (p,) = case.weights
    if storage == "full":
        kept = data.draw(factors(depth, SHAPE))
    else:
        kept = [data.draw(weights(SHAPE))] * (storage == "tied")
    for tensor, value in zip(case.kept(p), kept, strict=True):
        tensor.copy_(value)
    with torch.no_grad():
        p.copy_(cases.agreeing(storage, kept, depth, SHAPE, torch.Generator().manual_seed(seed)))
    p.grad = data.draw(weights(SHAPE))
    expected = exact_step(case, p)
    case.optimizer.step()
    assert_step(case, [expected])


@given(data=st.data(), seed=SEEDS, depth=depths(), kept=st.sampled_from([0, 1]))
def test_the_native_step_of_groups_is_exact_to_its_bound(
    data: st.DataObject, seed: int, depth: int, kept: int
) -> None:
    """The same of a full factor and gates, which rows or columns share (`tests.native.gate_truth`)."""
    spec = gate_cases.plain((kept,), SHAPE, kept)
    case = gate_cases.draw(seed, depth=depth, dtype=torch.float32, layout="contiguous", specs=[spec])
    (p,) = case.weights
    for tensor in case.kept(p):
        tensor.copy_(data.draw(weights(tuple(tensor.shape))))
    with torch.no_grad():
        p.copy_(gate_cases.agreeing(spec, case.optimizer.state[p], depth))
    p.grad = data.draw(weights(SHAPE))
    expected = test_gates.exact_step(case, p, spec)
    case.optimizer.step()
    test_gates.assert_step(case, [expected])


@pytest.mark.parametrize("backend", ["reference", "blocked", "auto"])
@given(data=st.data(), depth=depths(), penalty=penalties(0.0, 1.0))
def test_the_step_of_sgd_is_the_gradient(
    backend: str, data: st.DataObject, depth: int, penalty: float
) -> None:
    """f_d' = f_d - eta (g prod_{e != d} f_e + (2 lambda/D) f_d).

    D + 5 roundings of the gradient and two of the move, of the sum of all terms' magnitudes; twice, for
    the expected value is rounded too.
    """
    drawn = data.draw(factors(depth, SHAPE, torch.float64))
    upstream = data.draw(weights(SHAPE, torch.float64, extremes=False))
    weight, eta = Parameter(torch.ones(SHAPE, dtype=torch.float64)), 2.0**-5
    options = {"lr_scale": 1.0, "flush": None, "backend": backend, "depth": depth}
    optimizer = DWFOptimizer([weight], lr=eta, penalty=penalty, **options)
    for factor, value in zip(optimizer.factors(weight), drawn, strict=True):
        factor.copy_(value)
    with torch.no_grad():
        weight.copy_(multiply(drawn))
    step_with(optimizer, {weight: upstream})
    slopes, decay = gradients(drawn, upstream, penalty), 2 * penalty / depth
    state = optimizer.state[weight]
    for d, (factor, slope, rest) in enumerate(zip(drawn, slopes, leave_one_out(drawn), strict=True)):
        terms = factor.abs() + eta * ((upstream * rest).abs() + decay * factor.abs())
        allowed = 2 * gamma(depth + 7, torch.float64) * terms
        assert bool(((state[f"factor.{d}"] - (factor - eta * slope)).abs() <= allowed).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data(), depth=depths(), storage=st.sampled_from(list(STORAGES)))
def test_a_balanced_start_is_balanced_in_every_storage(
    dtype: torch.dtype, data: st.DataObject, depth: int, storage: str
) -> None:
    """|f_1| = ... = |f_D| = |w|^(1/D), and the signs multiply to that of w."""
    weight = Parameter(data.draw(weights(SHAPE, dtype)))
    if not bool(weight.any()):
        with torch.no_grad():
            weight[0, 0] = 1.0  # all zero starts in a way of its own
    with even_depths_allowed():
        optimizer = DWFOptimizer(
            [weight], 0.1, penalty=0.0, depth=depth, storage=storage, init="balanced"
        )
    drawn = optimizer.factors(weight)
    assert_balanced(drawn)
    assert torch.equal(torch.stack(drawn).sign().prod(0), weight.detach().sign())


@pytest.mark.parametrize("storage", ["tied", "ephemeral"])
@given(
    weight=weights(SHAPE, torch.float64, zeros=False, extremes=False),
    upstream=weights(SHAPE, torch.float64, extremes=False),
    depth=depths(),
    penalty=penalties(0.0, 1.0),
    backend=st.sampled_from(["reference", "blocked"]),
)
def test_one_root_steps_as_balanced_factors_do(
    storage: str, weight: Tensor, upstream: Tensor, depth: int, penalty: float, backend: str
) -> None:
    """w' = prod_d (f_d - eta (g prod_{e != d} f_e + (2 lambda/D) f_d)) with |f_d| = |w|^(1/D).

    A root is off by 4 + |ln w| roundings at most; g r^(D-1) has D - 1 such and D of its own. So the move
    is off by k = (D + 1) (5 + |ln w|) + D + 8 roundings of the sum of its terms T, and the product by D
    times that of T^D; twice, for the expected value is rounded too.
    """
    eta = 0.05
    moved = [Parameter(weight.clone())]
    options = {"penalty": penalty, "depth": depth, "lr_scale": 1.0, "flush": None}
    with even_depths_allowed():
        optimizer = DWFOptimizer(
            moved, lr=eta, storage=storage, init="balanced", backend=backend, **options
        )
    step_with(optimizer, {moved[0]: upstream})
    root = weight.abs() ** (1 / depth)
    start = [root] * (depth - 1) + [root.copysign(weight)]
    slopes = gradients(start, upstream, penalty)
    expected = multiply([f - eta * slope for f, slope in zip(start, slopes, strict=True)])
    terms = root + eta * (upstream.abs() * root ** (depth - 1) + 2 * penalty / depth * root)
    roundings = (depth + 1) * (5 + 7) + depth + 8  # |ln w| <= 7, from 2^-10 to 1
    allowed = 2 * depth * gamma(roundings, torch.float64) * terms**depth
    assert bool(((moved[0] - expected).abs() <= allowed).all())


class OneWeight(nn.Module):
    """A model whose loss is an objective of its weight."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = Parameter(start.clone())


@given(
    data=st.data(),
    base=st.sampled_from(BASES),
    storage=st.sampled_from(["full", "tied"]),
    objective=objectives(),
    penalty=penalties(0.0, 0.1),
    resume_at=st.integers(0, 4),
)
def test_a_resumed_run_is_the_run_that_went_through(
    data: st.DataObject,
    base: Base,
    storage: str,
    objective: Objective,
    penalty: float,
    resume_at: int,
) -> None:
    """state_dict and load_state_dict hold all there is, to the bit."""
    start = data.draw(weights((1, objective.size), extremes=False, zeros=False))
    if storage == "tied" and base.name == "Lion":
        storage = "full"  # a base that keeps what `tied` does not know is refused

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = OneWeight(start)
        options = {"penalty": penalty, "storage": storage, **base.options}
        return model, DWFOptimizer(model.parameters(), base=base.cls, **options)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        objective(model.weight).backward()
        optimizer.step()

    assert_resume_exact(make, train, steps=5, resume_at=resume_at)
