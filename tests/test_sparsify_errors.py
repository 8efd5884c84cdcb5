"""`sparsify` refuses by name, and leaves everything as it was whenever it fails."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dwf_optim import DWFOptimizer, sparsify
from tests.helpers import BASES, dwf, identical, kept_mass, mlp, snapshot, tally, train

with_and_without = pytest.mark.parametrize("given_optimizer", [True, False])


def state_tensors(optimizer: DWFOptimizer) -> list[Tensor]:
    states = optimizer.state_dict()["state"].values()
    return [v.clone() for state in states for v in state.values() if isinstance(v, Tensor)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"at least 0 and below 1, got 1\.0; 98 % is 0\.98"),
        ({"sparsity": 98}, r"below 1, got 98; 98 % is 0\.98"),
        ({"sparsity": -0.1}, "got -0.1"),
        ({"sparsity": math.nan}, "got nan"),
        ({"threshold": -1.0}, "threshold must be finite and >= 0, got -1"),
        ({"threshold": math.nan}, "threshold must be .*got nan"),
        ({"tolerance": -0.1, "evaluate": lambda model: 1.0}, "tolerance must be .*got -0.1"),
        ({"tolerance": 0.1}, "tolerance needs evaluate"),
        ({"sparsity": 0.5, "threshold": 0.1}, r"give one of .*'threshold': 0\.1.*'sparsity': 0\.5"),
        ({"evaluate": lambda model: math.nan}, "evaluate returned NaN"),
        (
            {"tolerance": 0.1, "evaluate": lambda model: torch.tensor(math.nan)},
            "evaluate returned NaN",
        ),
    ],
)
@with_and_without
def test_sparsify_refuses(options: dict[str, Any], message: str, given_optimizer: bool) -> None:
    model = mlp()
    optimizer = dwf(model, BASES[0]) if given_optimizer else None
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        sparsify(model, optimizer, **options)
    assert identical(snapshot(model), before)


def test_sparsify_of_nothing() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="no factorized tensor"):
        sparsify(model, dwf(model, BASES[0], depth=1))
    with pytest.raises(ValueError, match="no factorized tensor"):
        sparsify(nn.LayerNorm(3))
    with pytest.raises(TypeError, match="DWFOptimizer or None, got SGD"):
        sparsify(model, torch.optim.SGD(model.parameters(), lr=0.1))


def failing_at(call: int, result: float | Exception) -> Callable[[nn.Module], float]:
    calls = iter(range(1000))

    def evaluate(model: nn.Module) -> float:
        if next(calls) != call:
            return kept_mass(model)
        if isinstance(result, Exception):
            raise result
        return result

    return evaluate


RULES = [{"threshold": 0.3}, {"sparsity": 0.5}, {"tolerance": 5.0}]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: next(iter(rule)))
@pytest.mark.parametrize("call", ["first", "second", "last"])
@pytest.mark.parametrize("result", [float("nan"), RuntimeError("out of memory")], ids=str)
@with_and_without
def test_a_failing_evaluate_leaves_everything_as_it_was(
    rule: dict[str, float], call: str, result: float | Exception, given_optimizer: bool
) -> None:
    model = mlp()
    optimizer = dwf(model, BASES[1])
    train(model, optimizer, 3)
    before, state = snapshot(model), state_tensors(optimizer)

    counted: list[int] = []
    sparsify(copy.deepcopy(model), **rule, evaluate=tally(counted), progress=False)
    index = {"first": 0, "second": 1, "last": len(counted) - 1}[call]
    with pytest.raises((ValueError, RuntimeError), match=r"NaN|out of memory"):
        sparsify(
            model,
            optimizer if given_optimizer else None,
            **rule,
            evaluate=failing_at(index, result),
            progress=False,
        )
    model_is_unchanged = identical(snapshot(model), before)
    assert model_is_unchanged
    state_is_unchanged = identical(state_tensors(optimizer), state)
    assert state_is_unchanged


def test_an_example_that_does_not_fit_leaves_everything_as_it_was() -> None:
    model = mlp()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        sparsify(model, sparsity=0.5, example=torch.ones(2, 5))
    assert identical(snapshot(model), before)
