"""What cannot work is refused: the message names the value and the way out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer, param_groups
from tests.helpers import BASES, assert_same_state, dwf, identical, mlp, snapshot, train


def build(params: Any = None, **options: Any) -> DWFOptimizer:
    options = {"lr": 0.1, "penalty": 1e-3, **options}
    return DWFOptimizer([Parameter(torch.ones(2, 3))] if params is None else params, **options)


class NormScaled(Optimizer):
    """A third-party optimizer that scales steps by the tensor's norm: not elementwise."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.norm() * p.grad / p.grad.norm())


class NeedsClosure(Optimizer):
    """A third-party optimizer that cannot step without a closure."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any) -> Any:
        return closure()


OPTIONS = [
    ({"depth": 0}, ValueError, "depth must be between 1 and 8, got 0"),
    ({"depth": -2}, ValueError, "depth must be .*-2"),
    ({"depth": 9}, ValueError, "between 1 and 8, got 9"),
    ({"depth": 2.5}, TypeError, "depth must be an integer, got 2.5"),
    ({"depth": "3"}, TypeError, "depth must be an integer, got '3'"),
    ({"depth": True}, TypeError, "depth must be an integer, got True"),
    ({"penalty": None}, TypeError, "penalty is missing.*penalty=3e-4"),
    ({"penalty": -1e-3}, ValueError, "penalty must be finite and >= 0, got -0.001"),
    ({"penalty": math.nan}, ValueError, "penalty must be finite and >= 0, got nan"),
    ({"penalty": math.inf}, ValueError, "penalty must be finite and >= 0, got inf"),
    ({"penalty": "1e-3"}, TypeError, "penalty must be a number, got '1e-3'"),
    ({"init": "xavier"}, ValueError, "unknown init 'xavier'; use one of .*'preserve'"),
    ({"storage": "half"}, ValueError, "unknown storage 'half'; use one of .*'full'"),
    ({"storage": "tied", "init": "dwf"}, ValueError, "one root .*start balanced.*not 'dwf'"),
    ({"structure": "row"}, ValueError, "unknown structure 'row'; use one of .*'elementwise'"),
    ({"lr_scale": 0}, ValueError, "lr_scale must be 'auto' or .* > 0, got 0"),
    ({"lr_scale": math.nan}, ValueError, "lr_scale must be .*got nan"),
    ({"lr_scale": "fast"}, TypeError, "lr_scale must be .*number.*got 'fast'"),
    ({"min_ndim": -1}, ValueError, "min_ndim must be >= 0, got -1"),
    ({"flush": "all"}, ValueError, "unknown flush 'all'; use one of .*'dead'"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS)
def test_options_for_all_groups(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(**options)


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS)
def test_options_of_one_group(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build([{"params": [Parameter(torch.ones(2, 2))], **options}])


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'; use one of .*'blocked'"):
        build(backend="cuda")


# --------------------------------------------------------------------------------------- bases


@pytest.mark.parametrize(
    "base",
    [
        getattr(torch.optim, name)
        for name in ("LBFGS", "SparseAdam", "Adafactor", "Muon")
        if hasattr(torch.optim, name)
    ],
)
def test_bases_refused_by_name(base: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=f"{base.__name__} cannot be a base: it .*; use an eleme"):
        build(base=base)


def test_subclass_of_a_refused_base() -> None:
    mine = type("Mine", (torch.optim.LBFGS,), {})
    with pytest.raises(ValueError, match="Mine cannot be a base"):
        build(base=mine)


def test_unknown_bases_are_found_out() -> None:
    with pytest.raises(ValueError, match="NormScaled cannot be a base: it does not act element by"):
        build(base=NormScaled)
    with pytest.raises(ValueError, match=r"NeedsClosure cannot be a base.*closure"):
        build(base=NeedsClosure)


def test_a_base_instance_points_to_wrap() -> None:
    built = torch.optim.SGD([Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(TypeError, match=r"instance of SGD; use DWFOptimizer\.wrap"):
        build(base=built)
    with pytest.raises(TypeError, match=r"subclass of torch\.optim\.Optimizer.* got 'sgd'"):
        build(base="sgd")
    with pytest.raises(TypeError, match=r"subclass of torch\.optim\.Optimizer"):
        build(base=nn.Linear)


def test_the_bases_own_refusals_come_through() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        build(lr=-1.0)
    with pytest.raises(ValueError, match="Invalid momentum value: -1"):
        build(momentum=-1)
    with pytest.raises(ValueError, match="Invalid learning rate: -2"):
        build([{"params": [Parameter(torch.ones(2, 2))], "lr": -2.0}])
    with pytest.raises(TypeError, match="unexpected keyword argument 'betas'"):
        build(betas=(0.9, 0.99))
    with pytest.raises(ValueError, match="differentiable=True is not supported"):
        build(differentiable=True)


def test_wrap_refuses() -> None:
    with pytest.raises(TypeError, match=r"wrap takes a built .* got <class .*base="):
        DWFOptimizer.wrap(torch.optim.SGD, penalty=1e-3)
    with pytest.raises(TypeError, match="this is a DWFOptimizer: use it as it is"):
        DWFOptimizer.wrap(build(), penalty=1e-3)
    # What stands in the built optimizer's groups would win, unsaid.
    built = torch.optim.SGD([Parameter(torch.ones(2, 2))], lr=0.1)
    with pytest.raises(TypeError, match=r"wrap takes lr, momentum from .* param_groups"):
        DWFOptimizer.wrap(built, penalty=1e-3, lr=0.5, momentum=0.9)
    with pytest.raises(TypeError, match="wrap takes base from"):
        DWFOptimizer.wrap(built, penalty=1e-3, base=torch.optim.Adam)
    with pytest.raises(ValueError, match="DWFOptimizer cannot be a base"):
        build(base=DWFOptimizer)


# ---------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("depth", [1, 3])
def test_integer_parameters(depth: int) -> None:
    weight = Parameter(torch.ones(2, 2, dtype=torch.int64), requires_grad=False)
    with pytest.raises(TypeError, match=r"dtype torch\.int64: convert it to a floating dtype"):
        build([weight], depth=depth)


def test_complex_parameters_only_without_factors() -> None:
    weight = Parameter(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"complex64.*depth=1, or make torch\.view_as_real"):
        build([weight])
    build([weight], depth=1)


def test_sparse_gradients() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = build(embedding.parameters())
    before = embedding.weight.detach().clone()
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(TypeError, match=r"sparse gradient.*sparse=False.*depth=1"):
        optimizer.step()
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_named_and_stop_nobody(value: float) -> None:
    """As in torch, what is NaN stays NaN; the other weights go on as if it were not there."""
    broken, sound, alone = (Parameter(torch.ones(2, 3)) for _ in range(3))
    with torch.no_grad():
        broken[0, 1] = value
    optimizer, other = build([("sound", sound), ("broken", broken)]), build([alone])
    for p in (broken, sound, alone):
        p.grad = torch.full_like(p, 0.1)
    with pytest.warns(UserWarning, match=r"broken of shape \(2, 3\) holds NaN or infinity.*initialize"):
        optimizer.step()
    other.step()
    optimizer.step()
    other.step()
    assert not broken[0, 1].isfinite()
    assert torch.equal(sound, alone)


def test_strangers() -> None:
    optimizer = build()
    stranger = Parameter(torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"no such parameter \(shape \(4, 4\)\).*add_param_group"):
        optimizer.factors(stranger)
    with pytest.raises(ValueError, match="no such parameter"):
        optimizer.zero_(stranger, torch.ones(4, 4, dtype=torch.bool))
    [held] = optimizer.param_groups[0]["params"]
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), the parameter \(2, 3\)"):
        optimizer.zero_(held, torch.ones(2, dtype=torch.bool))


# -------------------------------------------------------------------------------------- groups

BAD_GROUPS = [
    *((options, [torch.ones(2, 2)], message) for options, _, message in OPTIONS),
    ({"lr": -1.0}, [torch.ones(2, 2)], "Invalid learning rate"),
    ({}, [torch.ones(2, 2, dtype=torch.int32)], "dtype torch"),
    # The first of these two is drawn before the second is found wanting.
    ({"init": "dwf"}, [torch.ones(2, 2), torch.full((2, 2), math.nan)], "late.1 .*NaN or infinity"),
]


@pytest.mark.parametrize(("options", "tensors", "message"), BAD_GROUPS)
def test_a_refused_group_leaves_the_optimizer_and_its_weights_alone(
    options: dict[str, Any], tensors: list[torch.Tensor], message: str
) -> None:
    params = [Parameter(t.clone(), requires_grad=t.is_floating_point()) for t in tensors]
    group = {"params": [(f"late.{i}", p) for i, p in enumerate(params)], **options}
    model, twin = mlp(), mlp()
    optimizer, untouched = dwf(model, BASES[1], init="dwf"), dwf(twin, BASES[1], init="dwf")
    train(model, optimizer, 2)
    train(twin, untouched, 2)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.add_param_group(group)
    unchanged = identical(params, tensors)
    assert unchanged
    assert_same_state(optimizer, untouched)
    train(model, optimizer, 2)
    train(twin, untouched, 2)
    assert identical(snapshot(model), snapshot(twin))
    # Positions, on which the draws depend, are what they would have been.
    for each in (optimizer, untouched):
        weight = Parameter(torch.ones(3, 3))
        each.add_param_group({"params": [("late", weight)]})
        each.factors(weight)
    assert_same_state(optimizer, untouched)


def test_a_tensor_in_two_groups() -> None:
    weight = Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="more than one parameter group"):
        build([{"params": [weight]}, {"params": [weight]}])


def test_no_parameters() -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        build([])


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_param_groups_refuses_names_that_are_not_there(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument} names no .*\['0\.wieght'\]; use names"):
        param_groups(mlp(), penalty=1e-3, **{argument: ["0.wieght"]})


# --------------------------------------------------------------------------------- checkpoints


def test_foreign_checkpoints() -> None:
    model = mlp()
    optimizer = dwf(model, BASES[0])
    before = optimizer.state_dict()
    newer = optimizer.state_dict()
    newer["param_groups"][0]["format"] = 99
    with pytest.raises(ValueError, match=r"format 99, .* reads up to 1: upgrade dwf-optim"):
        optimizer.load_state_dict(newer)
    other = build()
    with pytest.raises(ValueError, match=r"hold \[1\] parameters, this optimizer's \[4\]"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.state_dict() == before


def test_a_checkpoint_of_another_base_is_refused_and_changes_nothing() -> None:
    adam, sgd = (
        DWFOptimizer(mlp().parameters(), lr=1e-3, penalty=1e-3, base=base)
        for base in (torch.optim.Adam, torch.optim.SGD)
    )
    before = sgd.state_dict()
    with pytest.raises(ValueError, match=r"base is Adam, this optimizer's SGD.*base=Adam"):
        sgd.load_state_dict(adam.state_dict())
    assert sgd.state_dict() == before


@pytest.mark.parametrize(
    "option",
    [{"base": torch.optim.Adam}, {"backend": "reference"}, {"seed": 1}],
    ids=lambda o: next(iter(o)),
)
def test_what_all_groups_share_is_refused_in_one(option: dict[str, object]) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match=f"{next(iter(option))} is one for all groups"):
        DWFOptimizer([{"params": [weight], **option}], lr=0.1, penalty=1e-3)
