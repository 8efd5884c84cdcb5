"""Every assertion lets right code pass and finds wrong code, with a message that shows the case."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from dwf_optim.testing import (
    Objective,
    assert_balanced,
    assert_factor_gradients,
    assert_penalty_equivalent,
    assert_resume_exact,
    assert_same_function,
    assert_same_minimum,
    assert_zero_is_absorbing,
    gamma,
    roundings_of_split,
)

FACTORS = [torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]), torch.tensor([1.0, 1.0])]


def squares(fs: Sequence[Tensor]) -> Tensor:
    return sum(f.square().sum() for f in fs) / len(fs)


# -------------------------------------------------------------------------------- penalties


def test_penalty_equivalent() -> None:
    assert_penalty_equivalent(lambda fs: 0.1 * squares(fs), FACTORS, penalty=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda fs: squares(fs) / 2, "is below the claimed"),
        (lambda fs: squares(fs) * len(fs), "of balanced factors is not the claimed"),
        (lambda fs: squares(fs) * (1 + 1e-5), "of balanced factors is not the claimed"),
        (lambda fs: squares(fs) - fs[0].square().sum() / len(fs), "is below|is not the claimed"),
    ],
    ids=["too small", "without 1/D", "by a hundredth of a per mille", "one factor missing"],
)
def test_wrong_penalties(wrong: Callable[[Sequence[Tensor]], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message) as found:
        assert_penalty_equivalent(wrong, FACTORS)
    for shown in ("factor penalty", "claimed", "may differ by", "depth", "f_1", "f_3"):
        assert shown in str(found.value)


# -------------------------------------------------------------------------------- balance


def test_balanced() -> None:
    assert_balanced([torch.tensor([2.0, -3.0]), torch.tensor([-2.0, 3.0])], roundings=0)
    root = torch.tensor([0.1, 7.0, 1e-30]) ** (1 / 3)
    assert_balanced([root, root, torch.tensor([0.1, 7.0, 1e-30]) / (root * root)])
    with pytest.raises(AssertionError, match=r"(?s)does not have the magnitude.*at index .*\(1,\)"):
        assert_balanced([torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.001])])
    with pytest.raises(AssertionError, match="magnitude"):
        assert_balanced([torch.tensor([1.0]), torch.tensor([1 + 2.0**-23])], roundings=0)


# -------------------------------------------------------------------------------- gradients


def autograd(wrong: Callable[[list[Tensor]], Tensor]) -> list[Tensor]:
    leaves = [f.clone().requires_grad_() for f in FACTORS]
    wrong(leaves).backward()
    return [leaf.grad for leaf in leaves]


UPSTREAM = torch.tensor([0.3, -2.0])


def test_gradients() -> None:
    def right(fs: list[Tensor]) -> Tensor:
        return (UPSTREAM * fs[0] * fs[1] * fs[2]).sum() + 0.1 * squares(fs)

    assert_factor_gradients(autograd(right), FACTORS, UPSTREAM, penalty=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda fs: (UPSTREAM * fs[0] * fs[1] * fs[2]).sum() + 0.1 * 3 * squares(fs),
        lambda fs: (UPSTREAM * fs[0] * fs[1] * fs[2]).sum(),
        lambda fs: (UPSTREAM * fs[0] * fs[1]).sum() + 0.1 * squares(fs),
        lambda fs: (-UPSTREAM * fs[0] * fs[1] * fs[2]).sum() + 0.1 * squares(fs),
    ],
    ids=["without 1/D", "no penalty", "a factor missing", "sign"],
)
def test_wrong_gradients(wrong: Callable[[list[Tensor]], Tensor]) -> None:
    with pytest.raises(AssertionError, match=r"(?s)gradient by f_.*found.*expected.*upstream"):
        assert_factor_gradients(autograd(wrong), FACTORS, UPSTREAM, penalty=0.1)


def test_a_gradient_that_is_missing() -> None:
    gradients = [torch.zeros(2), None, torch.zeros(2)]
    with pytest.raises(AssertionError, match="f_2 has no gradient"):
        assert_factor_gradients(gradients, [torch.zeros(2)] * 3, UPSTREAM)


# -------------------------------------------------------------------------------- functions


def test_same_function() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    inputs = torch.randn(3, 5)
    assert_same_function(model, copy.deepcopy(model), inputs)

    def in_another_order(x: Tensor) -> Tensor:
        first, last = model[0], model[2]
        terms = [x[:, i, None] * first.weight[:, i] for i in range(5)]
        return torch.tanh(sum(terms[::-1]) + first.bias) @ last.weight.T + last.bias

    assert_same_function(model, in_another_order, inputs)
    for parameter in range(4):
        other = copy.deepcopy(model)
        with torch.no_grad():
            list(other.parameters())[parameter].view(-1)[0] += 1e-4
        with pytest.raises(AssertionError, match=r"(?s)differ.*may differ by.*inputs"):
            assert_same_function(model, other, inputs)


def test_same_function_of_plain_functions() -> None:
    x = torch.tensor([3.0, 4.0])
    assert_same_function(lambda v: v.square().sum().sqrt(), lambda v: v.norm(), x)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_function(lambda v: v.norm(), lambda v: v.norm(p=1), x)
    with pytest.raises(AssertionError, match="shape"):
        assert_same_function(lambda v: v.norm(), lambda v: v, x)


# -------------------------------------------------------------------------------- minima


def pulled_to(target: float) -> Callable[[Tensor], Tensor]:
    def objective(weight: Tensor) -> Tensor:
        return (weight - target).square().sum() / 2

    return objective


def test_same_minimum_is_soft_thresholding_at_depth_two() -> None:
    options: dict[str, Any] = {"penalty": 0.5, "depth": 2, "tolerance": 1e-6}
    assert_same_minimum(pulled_to(2.0), torch.tensor([1.5]), **options)
    assert_same_minimum(pulled_to(0.4), torch.tensor([0.0]), **options)
    with pytest.raises(AssertionError, match=r"(?s)not stationary.*gradient left *-1\.5"):
        assert_same_minimum(pulled_to(2.0), torch.tensor([0.0]), **options)
    with pytest.raises(AssertionError, match="not stationary"):
        assert_same_minimum(pulled_to(2.0), torch.tensor([1.50001]), **options)


def test_a_maximum_between_two_minima_is_none() -> None:
    # (w - 2)^2 / 2 + |w|^(1/2): the slope w - 2 + w^(-1/2) / 2 is zero where x = sqrt(w) solves
    # x^3 - 2 x + 1/2 = 0, which has two positive roots.
    options: dict[str, Any] = {"penalty": 1.0, "depth": 4, "tolerance": 1e-9}
    low, high = sorted(float(x) ** 2 for x in np.roots([1, 0, -2, 0.5]) if x > 0)
    assert_same_minimum(pulled_to(2.0), torch.tensor([high], dtype=torch.float64), **options)
    with pytest.raises(AssertionError, match="no local minimum of the sparse problem"):
        assert_same_minimum(pulled_to(2.0), torch.tensor([low], dtype=torch.float64), **options)


# -------------------------------------------------------------------------------- zeros, resume


def test_zero_is_absorbing() -> None:
    weight = nn.Parameter(torch.tensor([0.0, 1.0]))

    def step(optimizer: Optimizer, grad: list[float]) -> Callable[[], None]:
        def take() -> None:
            weight.grad = torch.tensor(grad)
            optimizer.step()

        return take

    assert_zero_is_absorbing(step(SGD([weight], 0.1), [0.0, 1.0]), [weight])
    with pytest.raises(AssertionError, match=r"(?s)come back after 1 step\n.*indices +\[\[0\]\]"):
        assert_zero_is_absorbing(step(SGD([weight], 0.1), [1.0, 1.0]), lambda: [weight])
    with pytest.raises(ValueError, match="no weight is zero at the start"):
        assert_zero_is_absorbing(step(SGD([weight], 0.1), [1.0, 1.0]), [torch.ones(2)])
    with pytest.raises(ValueError, match="no weight has moved in 10 steps"):
        assert_zero_is_absorbing(lambda: None, [torch.zeros(2)])


class Forgetful(SGD):
    """Loses its momentum when it is saved."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "state": {}}


@pytest.mark.parametrize("cls", [SGD, AdamW, Forgetful])
def test_resume(cls: type[Optimizer]) -> None:
    objective = Objective("logistic", 3, 0)
    options = {"momentum": 0.9} if issubclass(cls, SGD) else {}

    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1, bias=False)
        return model, cls(model.parameters(), lr=0.1, **options)

    def train(model: nn.Module, optimizer: Optimizer, number: int) -> None:
        optimizer.zero_grad()
        objective(model.weight).backward()
        optimizer.step()

    if cls is Forgetful:
        with pytest.raises(AssertionError, match=r"(?s)differs in .*run through.*Forgetful"):
            assert_resume_exact(make, train)
    else:
        assert_resume_exact(make, train)
    with pytest.raises(ValueError, match="has not changed"):
        assert_resume_exact(make, lambda *_: None)
    with pytest.raises(ValueError, match="resume_at 6, steps 6"):
        assert_resume_exact(make, train, resume_at=6)


# -------------------------------------------------------------------------------- bad input


def test_mistakes_in_a_test_are_no_broken_laws() -> None:
    with pytest.raises(TypeError, match="sequence of tensors"):
        assert_balanced(torch.ones(3))
    with pytest.raises(ValueError, match="factors is empty"):
        assert_balanced([])
    with pytest.raises(ValueError, match="one shape and dtype"):
        assert_balanced([torch.ones(3), torch.ones(2)])
    with pytest.raises(TypeError, match="floating-point"):
        assert_balanced([torch.ones(3, dtype=torch.int64)])
    with pytest.raises(ValueError, match="3 factors and 2 gradients"):
        assert_factor_gradients([torch.ones(2)] * 2, FACTORS, UPSTREAM)
    with pytest.raises(ValueError, match=r"upstream has shape \(3,\)"):
        assert_factor_gradients([torch.ones(2)] * 3, FACTORS, torch.ones(3))
    with pytest.raises(ValueError, match="penalty must be finite"):
        assert_penalty_equivalent(squares, FACTORS, penalty=-1.0)
    with pytest.raises(ValueError, match="depth must be >= 2"):
        assert_same_minimum(pulled_to(1.0), torch.ones(1), penalty=1.0, depth=1, tolerance=0.0)
    with pytest.raises(ValueError, match="tolerance must be >= 0"):
        assert_same_minimum(pulled_to(1.0), torch.ones(1), penalty=1.0, depth=2, tolerance=-1.0)
    with pytest.raises(TypeError, match="floating-point"):
        assert_same_function(lambda x: x, lambda x: x, torch.ones(2, dtype=torch.int64))


def test_bounds() -> None:
    assert gamma(1, torch.float32) == pytest.approx(2**-24, rel=1e-6)
    assert roundings_of_split(3, torch.float32) == 14 + 89
    with pytest.raises(ValueError, match="leave no digit certain"):
        gamma(2**11, torch.float16)
