"""Weights written by somebody else: averages swapped in, clipping, loading, renormalizing."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dwf_optim import DWFOptimizer
from dwf_optim.factors import product
from tests.contract.common import BY_NAME, PENALTY, build, matrices, randn, rounding
from tests.helpers import Base, assert_same_state, identical, mlp, snapshot, step_with, train, ulp

two_bases = pytest.mark.parametrize(
    "base", [BY_NAME["SGD-momentum"], BY_NAME["Adam"]], ids=lambda base: base.name
)


def base_state(optimizer: DWFOptimizer) -> list[Tensor]:
    states = [optimizer.state[p] for p in optimizer.factorized()]
    return [v.clone() for s in states for k, v in s.items() if k.startswith("base.")]


def assert_taken_over(optimizer: DWFOptimizer, before: list[list[Tensor]], state: list[Tensor]) -> None:
    """The factors represent the weights, with the ratios and signs they had; base state is kept."""
    for p, old in zip(optimizer.factorized(), before, strict=True):
        new = optimizer.factors(p)  # looking is enough: it compares
        assert bool(((product(new) - p).abs() <= len(new) * ulp(p)).all())
        # match scales all but the last by one positive number, in a handful of roundings.
        for a, b in zip(old[:-1], new[:-1], strict=True):
            scale, first = b / a, new[0] / old[0]
            assert bool((scale > 0).all())
            torch.testing.assert_close(scale, first, rtol=rounding(p.dtype, 1), atol=0)
    assert identical(base_state(optimizer), state)


def factors_now(optimizer: DWFOptimizer) -> list[list[Tensor]]:
    return [[f.clone() for f in optimizer.factors(p)] for p in optimizer.factorized()]


# ------------------------------------------------------------------------------------- EMA, SWA


@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.8)], ids=["SWA", "EMA"])
@two_bases
def test_averaging_is_right_and_does_not_disturb(base: Base, average: Callable | None) -> None:
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    averaged = AveragedModel(model, multi_avg_fn=average)
    expected: list[Tensor] = []
    for step in range(5):
        train(model, optimizer, 1)
        averaged.update_parameters(model)
        now = snapshot(model)
        share = 1 / (step + 1) if average is None else 0.2
        expected = (
            now if step == 0 else [e + share * (w - e) for e, w in zip(expected, now, strict=True)]
        )
    train(twin, plain, 5)
    assert identical(snapshot(model), snapshot(twin))
    for p, e in zip(averaged.module.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=rounding(p.dtype, 5), atol=1e-7)


def by_load(model: nn.Module, values: list[Tensor]) -> None:
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict(dict(zip(names, values, strict=True)))


def by_copy(model: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        for p, value in zip(model.parameters(), values, strict=True):
            p.copy_(value)


def by_data(model: nn.Module, values: list[Tensor]) -> None:
    for p, value in zip(model.parameters(), values, strict=True):
        p.data = value.clone()


ways = pytest.mark.parametrize("swap", [by_load, by_copy, by_data])


@ways
@two_bases
def test_swapping_an_average_in_for_evaluation_and_out_again_changes_nothing(
    base: Base, swap: Callable[[nn.Module, list[Tensor]], None]
) -> None:
    model, twin = mlp(), mlp()
    optimizer, plain = build(model.parameters(), base), build(twin.parameters(), base)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    for _ in range(3):
        train(model, optimizer, 2)
        averaged.update_parameters(model)
        kept = snapshot(model)
        swap(model, snapshot(averaged.module))
        swap(model, kept)
    train(twin, plain, 6)
    assert identical(snapshot(model), snapshot(twin))
    assert_same_state(optimizer, plain)


@ways
@two_bases
def test_swapping_an_average_in_for_good_goes_on_from_there(
    base: Base, swap: Callable[[nn.Module, list[Tensor]], None]
) -> None:
    model = mlp()
    optimizer = build(model.parameters(), base)
    averaged = AveragedModel(model)
    for _ in range(4):
        train(model, optimizer, 2)
        averaged.update_parameters(model)
    before, state = factors_now(optimizer), base_state(optimizer)
    average = snapshot(averaged.module)
    swap(model, average)
    assert identical(snapshot(model), average)
    assert_taken_over(optimizer, before, state)
    assert identical(snapshot(model), average)  # taking over does not write to the weight


@two_bases
def test_looking_or_stepping_sees_the_same_write(base: Base) -> None:
    models = mlp(), mlp()
    optimizers = [build(model.parameters(), base) for model in models]
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 3)
        by_load(model, snapshot(mlp(seed=4)))
    for p in models[0].parameters():
        optimizers[0].factors(p)
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 2)
    assert identical(snapshot(models[0]), snapshot(models[1]))
    assert_same_state(*optimizers)


# ---------------------------------------------------------------- loading, clipping, renormalizing


@two_bases
def test_loading_a_model_in_mid_training_equals_a_copy_of_the_run_written_likewise(base: Base) -> None:
    model = mlp()
    optimizer = build(model.parameters(), base)
    train(model, optimizer, 3)
    other, copied = copy.deepcopy((model, optimizer))
    before, state = factors_now(optimizer), base_state(optimizer)
    values = snapshot(mlp(seed=4))
    by_load(model, values)
    by_copy(other, values)
    assert_taken_over(optimizer, before, state)
    train(model, optimizer, 3)
    train(other, copied, 3)
    assert identical(snapshot(model), snapshot(other))
    assert_same_state(optimizer, copied)


@two_bases
def test_weight_clipping_after_every_step_holds(base: Base) -> None:
    """Every step starts from the clipped weight: held against factors matched to it by hand."""
    weight = nn.Parameter(0.3 * randn(6, 5, seed=1, dtype=torch.float64))
    optimizer = build([weight], base, depth=2, penalty=0.0)
    clipped = 0
    for step in range(6):
        start = weight.detach().clone()
        before = [f.clone() for f in optimizer.factors(weight)]
        assert bool(((product(before) - start).abs() <= 2 * ulp(start)).all())
        step_with(optimizer, {weight: randn(6, 5, seed=step + 2, dtype=torch.float64)})
        assert not torch.equal(weight, start)
        with torch.no_grad():
            clipped += int((weight.abs() > 0.4).sum())
            weight.clamp_(-0.4, 0.4)
    assert clipped > 5
    assert (
        float(optimizer.factors(weight)[0].mul(optimizer.factors(weight)[1]).abs().max()) <= 0.4 + 1e-15
    )


def test_embedding_that_renormalizes_itself_in_forward() -> None:
    """`max_norm` writes to the weight in every forward."""
    embedding = nn.Embedding(7, 4, max_norm=1.0)
    with torch.no_grad():
        embedding.weight.copy_(2 * randn(7, 4, seed=1))
    optimizer = DWFOptimizer(embedding.parameters(), lr=1e-6, penalty=PENALTY, lr_scale=1.0)
    rows = torch.tensor([0, 2, 5])
    for _ in range(4):
        optimizer.zero_grad()
        embedding(rows).square().sum().backward()
        optimizer.step()
    norms = embedding.weight.detach().norm(dim=1)
    # At this rate a step moves a row by far less than 1e-4.
    assert bool((norms[rows] <= 1 + 1e-4).all())
    assert bool((norms[[1, 3, 4, 6]] > 1.2).all())


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_write_to_some_elements_leaves_the_others_factors_alone(depth: int) -> None:
    model = mlp()
    optimizer = build(model.parameters(), BY_NAME["Adam"], depth=depth)
    train(model, optimizer, 3)
    before = factors_now(optimizer)
    weight = model[0].weight
    with torch.no_grad():
        weight[2] *= -1.5
    after = factors_now(optimizer)
    rest = [row for row in range(8) if row != 2]
    for old, new in zip(before[0], after[0], strict=True):
        assert torch.equal(old[rest], new[rest])
        assert not torch.equal(old[2], new[2])
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))


@two_bases
def test_a_model_rebuilt_by_reset_parameters(base: Base) -> None:
    model = mlp()
    optimizer = build(model.parameters(), base)
    train(model, optimizer, 3)
    before, state = factors_now(optimizer), base_state(optimizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for layer in (model[0], model[2]):
            layer.reset_parameters()
    start = [p.detach().clone() for p in matrices(model)]
    assert_taken_over(optimizer, before, state)
    assert identical([p.detach() for p in matrices(model)], start)


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_data_writes_are_seen(name: str) -> None:
    """`p.data.clamp_` (WGAN's clipping) bumps no version and moves no address."""
    model = mlp()
    optimizer = build(model.parameters(), BY_NAME[name], lr=1e-6)
    train(model, optimizer, 2)
    weight = model[0].weight
    assert bool((weight.abs() > 0.1).any())
    for _ in range(20):
        for p in model.parameters():
            p.data.clamp_(-0.1, 0.1)
        train(model, optimizer, 1)
    # At this rate a step moves a weight by far less than 1e-3.
    assert float(weight.detach().abs().max()) <= 0.101
