"""Parameters of every dtype, and models that change theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.factors import product
from tests.contract.common import PENALTY, Shadow, all_factors, build, matrices, randn, rounding
from tests.helpers import (
    BASES,
    Base,
    assert_same_state,
    backward,
    every_base,
    identical,
    mlp,
    snapshot,
    step_with,
    train,
)

STEPS = 6
HALVES = [torch.bfloat16, torch.float16]
MOVES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "double": lambda m: m.double(),
    "bfloat16": lambda m: m.bfloat16(),
    "half": lambda m: m.half(),
}


def assert_rounded(optimizer: DWFOptimizer) -> None:
    """Every factorized parameter is its factors' product, rounded once."""
    for p in optimizer.factorized():
        assert torch.equal(p, product(optimizer.factors(p)).to(p.dtype))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("dtype", HALVES)
@every_base
def test_half_precision_weights_are_rounded_products_of_float32_factors(
    base: Base, dtype: torch.dtype, depth: int
) -> None:
    model = mlp(dtype)
    optimizer = build(model.parameters(), base, depth=depth)
    shadow = Shadow(optimizer, matrices(model), base)
    for _ in range(STEPS):
        backward(model)
        shadow.step()
        optimizer.step()
    assert {f.dtype for f in all_factors(optimizer)} == {torch.float32}
    assert_rounded(optimizer)
    # The explicit factors never see half precision: half an ulp is the weight's own rounding.
    shadow.check(torch.finfo(dtype).eps / 2 + rounding(torch.float32, STEPS))
    assert all(p.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize("dtype", HALVES)
def test_steps_below_the_weights_precision_add_up(dtype: torch.dtype) -> None:
    """What bf16 weights lose (the update vanishes in rounding), float32 factors keep."""
    start, steps = 1.0, 64
    rate = torch.finfo(dtype).eps / 64  # far below half an ulp of 1
    weight, lost = (Parameter(torch.full((2, 2), start, dtype=dtype)) for _ in range(2))
    optimizer = DWFOptimizer([weight], lr=rate, penalty=0.0, depth=2, lr_scale=1.0)
    plain = torch.optim.SGD([lost], lr=rate)
    factors = [f.double() for f in optimizer.factors(weight)]
    for _ in range(steps):
        for each in (weight, lost):
            each.grad = torch.ones_like(each)
        optimizer.step()
        plain.step()
        # By hand, in float64: both factors step down along the other.
        factors = [factors[0] - rate * factors[1], factors[1] - rate * factors[0]]
    assert bool((lost == start).all())
    assert bool((weight < start).all())
    expected = product(factors)
    assert bool(((weight.double() - expected).abs() <= torch.finfo(dtype).eps / 2 * start).all())


@pytest.mark.parametrize("depth", [2, 3])
@every_base
def test_mixed_dtypes_in_one_group(base: Base, depth: int) -> None:
    """Each parameter goes as it would alone, of whatever dtype its neighbours are."""
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.float16]
    together = [Parameter(0.5 * randn(3, 4, seed=i, dtype=d)) for i, d in enumerate(dtypes)]
    optimizer = build(together, base, depth=depth)
    shadow = Shadow(optimizer, together, base)
    for step in range(STEPS):
        for i, p in enumerate(together):
            p.grad = randn(3, 4, seed=10 * step + i, dtype=p.dtype)
        shadow.step()
        optimizer.step()
    for p, expected in zip(together, shadow.truth.weights(), strict=True):
        wide = torch.promote_types(p.dtype, torch.float32)
        assert {f.dtype for f in optimizer.factors(p)} == {wide}
        error = (p.double() - expected.double()).norm() / expected.double().norm()
        assert error <= torch.finfo(p.dtype).eps / 2 + rounding(wide, STEPS), p.dtype


@pytest.mark.parametrize("move", MOVES)
@every_base
def test_model_moved_before_the_first_step(base: Base, move: str) -> None:
    """Construction looks at no value: a model converted after it trains as one converted before."""
    late, early = mlp(), mlp()
    optimizer = build(late.parameters(), base)
    MOVES[move](late)
    MOVES[move](early)
    other = build(early.parameters(), base)
    train(late, optimizer, STEPS)
    train(early, other, STEPS)
    assert identical(snapshot(late), snapshot(early))
    assert_same_state(optimizer, other)


@pytest.mark.parametrize("dtype", HALVES)
@every_base
def test_model_rounded_after_steps_keeps_its_factors(base: Base, dtype: torch.dtype) -> None:
    """A cast to half precision is no outside write: the product still rounds to the weight."""
    model = mlp()
    optimizer = build(model.parameters(), base)
    train(model, optimizer, 3)
    before = all_factors(optimizer)
    model.to(dtype)
    assert identical(all_factors(optimizer), before)
    assert {f.dtype for f in all_factors(optimizer)} == {torch.float32}


@every_base
def test_model_moved_to_half_precision_after_steps_goes_on(base: Base) -> None:
    model = mlp()[:1]  # the matrix alone: how the base takes a bias that moved is torch's business
    weight = model[0].weight
    model[0].bias.requires_grad_(False)
    optimizer = build([weight], base)
    shadow = Shadow(optimizer, [weight], base)
    for step in range(STEPS):
        if step == 3:
            model.bfloat16()
        weight.grad = randn(8, 6, seed=step, dtype=weight.dtype)
        shadow.step()
        optimizer.step()
    assert weight.dtype == torch.bfloat16
    shadow.check(torch.finfo(torch.bfloat16).eps / 2 + rounding(torch.float32, STEPS))


# ------------------------------------------------------------------------------------- complex


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_weights_are_refused_with_the_way_out(dtype: torch.dtype, depth: int) -> None:
    weight = Parameter(torch.ones(2, 2, dtype=dtype))
    with pytest.raises(TypeError, match="depth=1, or make torch"):
        DWFOptimizer([weight], lr=0.1, penalty=PENALTY, depth=depth)


COMPLEX = [base for base in BASES if base.name != "Lion"]  # a sign has no meaning there


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("base", COMPLEX, ids=lambda base: base.name)
def test_complex_at_depth_one_is_the_base(base: Base, foreach: bool) -> None:
    def run(build_it: Callable[[list[Tensor]], torch.optim.Optimizer]) -> list[Tensor]:
        weights = [
            Parameter(torch.complex(randn(3, 2, seed=i), randn(3, 2, seed=i + 5))) for i in (1, 2)
        ]
        optimizer = build_it(weights)
        for _ in range(STEPS):
            optimizer.zero_grad()
            sum((w - 1j).abs().square().sum() for w in weights).backward()
            optimizer.step()
        return [torch.view_as_real(w.detach()) for w in weights]

    options = {**base.options, "foreach": foreach}
    ours = run(lambda w: DWFOptimizer(w, base=base.cls, penalty=0.0, depth=1, **options))
    assert identical(ours, run(lambda w: base.cls(w, **options)))


@every_base
def test_view_as_real_is_the_way_out(base: Base) -> None:
    """What the refusal advises trains: the real view, used as complex in the model."""
    weight = Parameter(
        torch.view_as_real(torch.complex(randn(3, 2, seed=1), randn(3, 2, seed=2))).clone()
    )
    optimizer = build([weight], base, depth=2)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (torch.view_as_complex(weight) - 1j).abs().square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@every_base
def test_factors_widen_with_a_model_moved_to_double(base: Base) -> None:
    """Factors live in promote_types(p.dtype, float32), so a model made double gets double factors."""
    weight = Parameter(randn(6, 5, seed=1))
    optimizer = build([weight], base)
    for step in range(6):
        if step == 3:
            weight.data = weight.data.double()
            weight.grad = None
        step_with(optimizer, {weight: randn(6, 5, seed=step, dtype=weight.dtype)})
    assert {f.dtype for f in all_factors(optimizer)} == {torch.float64}
    assert not torch.equal(weight, weight.float().double())
