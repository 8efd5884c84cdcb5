"""The mathematics of gates, against float64 autograd and plain arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.factors import factor_penalty
from dwf_optim.gates import dead_groups, gate_gradients, gated, group_norms, rebalance
from dwf_optim.structure import grouping_of
from tests.reference.gates import CASES, Case
from tests.structure.common import draw

EPS = torch.finfo(torch.float64).eps
depths = st.integers(2, 8)
seeds = st.integers(0, 10**6)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.structure))
some_case = st.sampled_from(CASES)


def random_factors(case: Case, depth: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    grouping = grouping_of(case.structure)
    shape = grouping.gate_shape(case.shape)
    return grouping.view(draw(case.shape, seed)), [draw(shape, seed + d) for d in range(1, depth)]


def balanced(case: Case, weight: Tensor, depth: int) -> tuple[Tensor, list[Tensor]]:
    """Omega's norm and all gates of a group are the D-th root of its weights' norm."""
    view = grouping_of(case.structure).view
    norms = case.norms(weight)
    roots = norms ** (1 / depth)
    omega = weight / case.spread(roots ** (depth - 1))
    shape = grouping_of(case.structure).gate_shape(case.shape)
    return view(omega), [roots.reshape(shape) for _ in range(depth - 1)]


@every_case
def test_groups_are_those_of_the_definition(case: Case) -> None:
    weight = draw(case.shape, 1)
    grouping = grouping_of(case.structure)
    gate = torch.empty(grouping.gate_shape(case.shape))
    assert gate.numel() == case.groups
    norms = group_norms(grouping.view(weight), gate)
    torch.testing.assert_close(norms.flatten(), case.norms(weight), rtol=1e-14, atol=0)


@given(case=some_case, depth=depths, seed=seeds, penalty=st.floats(-1, 1))
def test_gradients_are_autograds(case: Case, depth: int, seed: int, penalty: float) -> None:
    omega, gates = random_factors(case, depth, seed)
    grad = draw(omega.shape, seed + 99)
    leaves = [t.clone().requires_grad_() for t in (omega, *gates)]
    weight = leaves[0]
    for gate in leaves[1:]:
        weight = weight * gate
    objective = (grad * weight).sum() + penalty * factor_penalty(leaves)
    expected = torch.autograd.grad(objective, leaves)
    found = gate_gradients(omega, gates, grad, penalty, torch.empty_like(omega))
    for value, truth, leaf in zip(found, expected, leaves, strict=True):
        # Sums of at most 18 products of D + 1 numbers, in another order.
        size = (grad.abs() * weight.abs()).sum() / leaf.abs().min() + abs(penalty) * leaf.abs().max()
        assert (value - truth).abs().max() <= 40 * depth * EPS * float(size.detach())


@given(case=some_case, depth=depths, seed=seeds)
def test_the_penalty_at_balance_is_that_of_the_groups_norms(case: Case, depth: int, seed: int) -> None:
    weight = draw(case.shape, seed)
    omega, gates = balanced(case, weight, depth)
    view = grouping_of(case.structure).view
    torch.testing.assert_close(gated(omega, gates), view(weight), rtol=20 * depth * EPS, atol=0)
    expected = sum(norm ** (2 / depth) for norm in case.norms(weight).tolist())
    assert math.isclose(float(factor_penalty([omega, *gates])), expected, rel_tol=1e-13)


@given(case=some_case, depth=depths, seed=seeds)
def test_elsewhere_it_is_above(case: Case, depth: int, seed: int) -> None:
    omega, gates = random_factors(case, depth, seed)
    weight = gated(omega, gates).reshape(case.shape)
    least = sum(norm ** (2 / depth) for norm in case.norms(weight).tolist())
    assert float(factor_penalty([omega, *gates])) >= least * (1 - 1e-13)


@given(case=some_case, depth=depths, seed=seeds, share=st.floats(0.1, 0.9))
def test_rebalanced_factors_multiply_to_the_weight(
    case: Case, depth: int, seed: int, share: float
) -> None:
    omega, gates = random_factors(case, depth, seed)
    view = grouping_of(case.structure).view
    alive = (torch.arange(case.groups) >= share * case.groups).double()
    weight = draw(case.shape, seed + 50) * case.spread(alive)
    found = rebalance(omega, gates, view(weight))
    again = gated(found[0], found[1:]).reshape(case.shape)
    # Two roundings, and one more for each gate beyond the first.
    assert bool(((again - weight).abs() <= (depth + 1) * EPS * weight.abs()).all())
    for value in found[1:]:
        assert torch.equal(value.flatten() == 0, alive == 0)
    # Ratios between the gates of a group stay as they were.
    for old, new, other_old, other_new in zip(gates, found[1:], gates[1:], found[2:], strict=False):
        torch.testing.assert_close(new * other_old, other_new * old * (new != 0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e-200, 1e200])
def test_rebalancing_to_extreme_weights(value: float) -> None:
    omega, gates = draw((3, 4), 1), [draw((3, 1), 2)]
    weight = draw((3, 4), 3)
    weight[1, 2] = value
    again = gated(*(lambda found: (found[0], found[1:]))(rebalance(omega, gates, weight)))
    torch.testing.assert_close(again, weight, rtol=4 * EPS, atol=0, equal_nan=True)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_group_is_dead_when_all_of_it_is_below_the_bound(depth: int) -> None:
    bound = torch.finfo(torch.float32).tiny ** (1 / depth)
    omega = torch.full((4, 3), bound / 2)
    gates = [torch.full((4, 1), bound / 2) for _ in range(depth - 1)]
    omega[1, 0] = 2 * bound
    gates[-1][2] = -2 * bound
    dead = dead_groups(omega, gates)
    assert dead is not None
    assert dead.flatten().tolist() == [True, False, False, True]
    assert dead_groups(torch.ones(4, 3), [torch.ones(4, 1)] * (depth - 1)) is None


@pytest.mark.parametrize("flush", ["dead", None])
@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.Adam])
def test_dead_groups_become_exact_zeros(flush: str | None, cls: type[torch.optim.Optimizer]) -> None:
    p = Parameter(draw((4, 3), 5, torch.float32))
    options = {"momentum": 0.9} if cls is torch.optim.SGD else {}
    optimizer = DWFOptimizer(
        [p], lr=1e-30, base=cls, penalty=0.0, structure="neuron", flush=flush, **options
    )
    p.grad = torch.ones_like(p)
    optimizer.step()
    for factor in optimizer.factors(p):
        factor[1] = 1e-14
    p.grad = torch.zeros_like(p)
    optimizer.step()
    zero = [float(f[1].abs().max()) == 0 for f in optimizer.factors(p)]
    assert all(zero) if flush else not any(zero)
    if flush:
        state = {k: v for k, v in optimizer.state[p].items() if isinstance(v, Tensor) and v.ndim == 2}
        assert all(not bool(value[1].any()) for value in state.values())
        assert all(bool(value[0].any()) for key, value in state.items())
        assert not bool(p[1].any())
        assert bool(p[0].all())


def test_groups_without_gradient_die_at_the_rate_of_the_law() -> None:
    """Norms fall as exp(-2 lambda sum eta) where factors are balanced, whatever the depth."""
    for depth in (2, 3, 4):
        p = Parameter(draw((5, 4), 7))
        with torch.no_grad():
            p /= p.norm(dim=1, keepdim=True)  # so that gates of 1 are balanced
        optimizer = DWFOptimizer([p], lr=0.01, penalty=0.1, depth=depth, structure="neuron")
        for _ in range(500):
            p.grad = torch.zeros_like(p)
            optimizer.step()
        # First order in the step: (1 - 2 lambda eta / D)^(D t), of which exp is the limit.
        expected = (1 - 2 * 0.1 * 0.01 / depth) ** (depth * 500)
        torch.testing.assert_close(
            p.detach().norm(dim=1), torch.full((5,), expected, dtype=torch.float64), rtol=1e-10, atol=0
        )
        assert math.isclose(expected, math.exp(-2 * 0.1 * 5), rel_tol=1e-3)


def test_gates_keep_a_step_of_the_dense_size_at_the_start() -> None:
    """Across the group a first step is the dense one; along it 1 + (D - 1) ||w||^2 times that."""
    weight, grad = draw((1, 6), 1), draw((1, 6), 2)
    weight *= 0.5 / weight.norm()
    along = weight * (weight * grad).sum() / weight.square().sum()
    for depth in (2, 3, 4):
        p = Parameter(weight.clone())
        optimizer = DWFOptimizer([p], lr=1e-6, penalty=0.0, depth=depth, structure="neuron")
        p.grad = grad.clone()
        optimizer.step()
        move = (p.detach() - weight) / -1e-6
        expected = (grad - along) + along * (1 + (depth - 1) * 0.25)
        torch.testing.assert_close(move, expected, rtol=1e-5, atol=1e-6)
