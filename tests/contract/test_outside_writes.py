"""Weights written by somebody else: averages swapped in, clipping, loading, renormalizing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dwf_optim import DWFOptimizer
from dwf_optim.factors import product
from dwf_optim.outside_writes import LINE
from tests.contract.common import BY_NAME, PENALTY, build, matrices, randn, rounding
from tests.helpers import (
    Base,
    assert_same_state,
    identical,
    mlp,
    seeded,
    snapshot,
    step_with,
    train,
    ulp,
)

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


# ------------------------------------------- through .data, which bumps no version and moves no address

# Of one block and of several; two in another order of memory; one with gaps in it.
LAYOUTS = {
    "small": lambda: torch.randn(60, 50, generator=seeded(1)),
    "medium": lambda: torch.randn(200, 300, generator=seeded(1)),
    "large": lambda: torch.randn(700, 600, generator=seeded(1)),
    "transposed": lambda: torch.randn(700, 600, generator=seeded(1)).t(),
    "channels_last": lambda: torch.randn(64, 512, 3, 3, generator=seeded(1)).to(
        memory_format=torch.channels_last
    ),
}
LAYOUTS["gaps"] = lambda: torch.randn(700, 600, generator=seeded(1))[:, ::2]
DATA_WRITES: dict[str, Callable[[Tensor], object]] = {
    "clamp": lambda w: w.clamp_(-1.6, 1.6),
    "scale": lambda w: w.mul_(0.9),
    "negate": lambda w: w.neg_(),
    "copy": lambda w: w.copy_(w.flip(0)),
    "first": lambda w: w[0].zero_(),
    "column": lambda w: w[:, 3].mul_(2.0),
    "swap": lambda w: w.copy_(w.roll(1, 0)),
}


def still(weight: nn.Parameter, name: str = "SGD-momentum") -> DWFOptimizer:
    """An optimizer at a rate at which a step moves a weight by far less than 1e-4, after one step."""
    optimizer = build([weight], BY_NAME[name], lr=1e-9)
    step_with(optimizer, {weight: torch.ones_like(weight)})
    return optimizer


@pytest.mark.parametrize("write", DATA_WRITES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_data_writes_are_seen_at_the_next_step(layout: str, write: str) -> None:
    weight = nn.Parameter(LAYOUTS[layout]())
    optimizer = still(weight)
    for _ in range(3):
        before = weight.detach().clone()
        DATA_WRITES[write](weight.data)
        written = weight.detach().clone()
        assert not torch.equal(written, before)
        step_with(optimizer, {weight: torch.ones_like(weight)})
        torch.testing.assert_close(weight.detach(), written, rtol=0, atol=1e-4)
        weight.data.copy_(LAYOUTS[layout]())
        step_with(optimizer, {weight: torch.ones_like(weight)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_data_writes_to_other_dtypes(dtype: torch.dtype) -> None:
    weight = nn.Parameter(LAYOUTS["large"]().to(dtype))
    optimizer = still(weight)
    weight.data[5] = 3.0
    step_with(optimizer, {weight: torch.ones_like(weight)})
    assert float((weight.detach()[5] - 3.0).abs().max()) < 1e-4


def test_single_elements_of_small_weights_are_seen_too() -> None:
    weight = nn.Parameter(LAYOUTS["small"]())
    optimizer = still(weight)
    weight.data[41, 7] += 0.01
    written = weight.detach().clone()
    step_with(optimizer, {weight: torch.ones_like(weight)})
    torch.testing.assert_close(weight.detach(), written, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["medium", "large", "channels_last"])
def test_a_single_element_is_seen_within_a_row_of_samples(layout: str) -> None:
    """Every element has its turn; a write that is repeated, as clipping is, is seen then."""
    weight = nn.Parameter(LAYOUTS[layout]())
    optimizer = still(weight)
    turns = math.ceil(max(weight.stride()) / LINE)
    index = tuple(size // 2 for size in weight.shape)
    for _ in range(turns):
        weight.data[index] = 3.0
        step_with(optimizer, {weight: torch.ones_like(weight)})
    assert abs(float(weight.detach()[index]) - 3.0) < 1e-4


@pytest.mark.parametrize("name", ["SGD-momentum", "Adam"])
def test_clipping_through_data_holds(name: str) -> None:
    """`p.data.clamp_`, as WGANs clip."""
    model = mlp()
    optimizer = build(model.parameters(), BY_NAME[name], lr=1e-6)
    train(model, optimizer, 2)
    assert bool((model[0].weight.abs() > 0.1).any())
    for p in model.parameters():
        p.data.clamp_(-0.1, 0.1)
    train(model, optimizer, 1)
    # At this rate a step moves a weight by far less than 1e-3.
    assert float(model[0].weight.detach().abs().max()) <= 0.101


def test_factors_edited_in_place_are_stepped_as_they_are() -> None:
    weight = nn.Parameter(LAYOUTS["small"]())
    optimizer = still(weight)
    with torch.no_grad():
        optimizer.factors(weight)[0].mul_(2)
    expected = 2 * weight.detach()
    step_with(optimizer, {weight: torch.ones_like(weight)})
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-4)


# -------------------------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("backend", ["auto", "blocked", "reference"])
@pytest.mark.parametrize("options", [{}, {"depth": 2, "structure": "neuron"}, {"storage": "tied"}])
def test_what_diverged_is_no_write(options: dict[str, Any], backend: str) -> None:
    """NaN and infinities that a step has made are nobody's to take over: factors stay as they are."""
    weight = nn.Parameter(1 + torch.rand(6, 5, generator=seeded(1)))
    optimizer = build([weight], BY_NAME["SGD-momentum"], backend=backend, **options)
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    grad = torch.zeros_like(weight)
    grad[1, 1], grad[2, 2], grad[4, 4] = math.nan, math.inf, -math.inf
    step_with(optimizer, {weight: grad})
    assert weight.isnan().any()
    kept = [key for key in optimizer.state[weight] if not key.startswith("base.")]
    before = [optimizer.state[weight][key].clone() for key in kept]
    for _ in range(2):
        optimizer.factors(weight)
    assert identical([optimizer.state[weight][key] for key in kept], before)


def test_looking_at_the_factors_of_a_broken_weight_does_not_change_them() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    with torch.no_grad():
        weight[0, 0], weight[1, 1] = math.nan, math.inf
    optimizer = build([weight], BY_NAME["SGD"])
    with pytest.warns(UserWarning, match="NaN or infinity"):
        before = [factor.clone() for factor in optimizer.factors(weight)]
    assert identical(optimizer.factors(weight), before)


@pytest.mark.parametrize("backend", ["auto", "blocked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_taken_over_from_outside(
    value: float, dtype: torch.dtype, backend: str
) -> None:
    """As with a plain optimizer, such a weight stays broken, and the others go on."""
    weight = nn.Parameter(torch.ones(6, 5, dtype=dtype))
    optimizer = build([weight], BY_NAME["SGD"], backend=backend, lr=1e-9)
    step_with(optimizer, {weight: torch.ones_like(weight)})
    with torch.no_grad():
        weight[1, 2] = value
    written = weight.detach().clone()
    for _ in range(2):
        step_with(optimizer, {weight: torch.ones_like(weight)})
    assert torch.equal(weight.isfinite(), written.isfinite())
    alive = written.isfinite()
    torch.testing.assert_close(weight.detach()[alive], written[alive], rtol=0, atol=1e-4)
    # A sound value brings it back.
    with torch.no_grad():
        weight.fill_(2.0)
    step_with(optimizer, {weight: torch.ones_like(weight)})
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 2.0), rtol=0, atol=1e-4)
