"""What groups cannot do is refused: the message names the value and the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.structure import STRUCTURES, Grouping
from tests.helpers import step_with


def build(shape: tuple[int, ...] = (6, 4), **options: Any) -> DWFOptimizer:
    options = {"lr": 0.1, "penalty": 1e-3, **options}
    return DWFOptimizer([Parameter(torch.ones(shape))], **options)


OPTIONS = [
    ({"structure": "row"}, ValueError, r"unknown structure 'row'; use one of .*'filter'.*dimensions"),
    ({"structure": 3}, TypeError, r"structure must be None, a name, .*got 3"),
    ({"structure": ["neuron"]}, TypeError, r"tuple.*got \['neuron'\]"),
    ({"structure": "head"}, ValueError, r"'head' needs a number of heads.*\('head', 8\)"),
    ({"structure": ("head", 0)}, ValueError, r"at least 1.*got \('head', 0\)"),
    ({"structure": ("head", 2, 3)}, ValueError, r"needs a number of heads"),
    ({"structure": ("neuron", 2)}, ValueError, r"'neuron' takes no number"),
    ({"structure": ("neuron", "input")}, ValueError, r"several structures on one tensor.*choose one"),
    ({"structure": ("elementwise", "neuron")}, ValueError, r"several structures on one tensor"),
    ({"structure": (-1,)}, ValueError, r"\(-1,\) must name dimensions .*from 0 on"),
    ({"structure": (0, 0)}, ValueError, r"each once"),
    ({"structure": "neuron", "storage": "tied"}, ValueError, r"storage='tied' has no way for"),
    ({"structure": "neuron", "init": "dwf"}, ValueError, r"structure='neuron' starts with the weight"),
    ({"structure": "neuron", "weigh_by_size": 1}, TypeError, r"must be True or False, got 1"),
    ({"weigh_by_size": True}, ValueError, r"structure=None has none"),
]
SHAPES = [
    ("filter", (6, 4), r"structure='filter' .*\(6, 4\): it is for 3 to 5 dimensions.*min_ndim=3"),
    ("neuron", (6, 4, 3, 3), r"structure='neuron' .*for 2 to 2 dimensions"),
    (("head", 4), (6, 4), r"dimension 0 does not part into 4 equal heads"),
    (("qkv_head", 4), (18, 6), r"does not part into 12 equal heads"),
    ((2,), (6, 4), r"it has no dimension 2"),
    ((0, 1), (6, 4), r"every element would have gates of its own; use structure=None"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS)
def test_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(**options)


@pytest.mark.parametrize(("structure", "shape", "message"), SHAPES)
def test_shapes(structure: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(shape, structure=structure)


def test_a_group_that_does_not_fit_leaves_the_optimizer_as_it_was() -> None:
    optimizer = build(structure="neuron")
    with pytest.raises(ValueError, match="structure='filter'"):
        optimizer.add_param_group({"params": [Parameter(torch.ones(2, 3))], "structure": "filter"})
    assert len(optimizer.param_groups) == 1


def test_tensors_below_min_ndim_are_the_bases() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    optimizer = DWFOptimizer(model.parameters(), lr=0.1, penalty=1e-3, structure="filter", min_ndim=3)
    assert list(optimizer.factorized()) == [model[0].weight]


def test_a_structure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRUCTURES, "column pair", Grouping(keeps=(1,), split=(1, (-1, 2))))
    optimizer = build(structure="column pair")
    (p,) = optimizer.factorized()
    step_with(optimizer, {p: torch.arange(24.0).view(6, 4)})
    omega, gate, _ = optimizer.factors(p)
    assert gate.shape == (1, 2, 1)
    assert optimizer.state_dict()["param_groups"][0]["structure"] == "column pair"
    assert omega.shape == p.shape
