"""Floors of `sparsify`: what is kept, what the report says of it, and what cannot be asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dwf_optim import sparsify
from dwf_optim.protection import Floor, protected
from tests.helpers import BASES, dwf, identical, kept_mass, mlp, seeded, snapshot, train


def largest(row: list[float], count: int) -> set[int]:
    """Places of a list's largest elements, zeros left out; the slow and obvious way."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))[:count]
    return {i for i in order if row[i] != 0}


@given(
    shape=st.sampled_from([(1, 1), (4, 7), (3, 2, 3, 3), (5,)]),
    per_unit=st.integers(0, 8),
    density=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_the_largest_of_units_and_layer_are_kept(
    shape: tuple[int, ...], per_unit: int, density: float, seed: int
) -> None:
    # Few values, so that there are ties and zeros.
    weight = torch.randint(-3, 4, shape, generator=seeded(seed)).float()
    sizes = weight.abs()
    width = sizes[0].numel()
    expected = {
        unit * width + place
        for unit, row in enumerate(sizes.reshape(shape[0], -1).tolist())
        for place in largest(row, per_unit)
    } | largest(sizes.flatten().tolist(), math.ceil(density * sizes.numel() - 1e-9))
    kept = protected(weight, Floor(per_unit, density))
    assert kept.shape == weight.shape
    assert set(kept.flatten().nonzero().flatten().tolist()) == expected


def test_the_order_of_memory_does_not_matter() -> None:
    weight = torch.randn(3, 2, 4, 4, generator=seeded(0))
    other = weight.to(memory_format=torch.channels_last)
    assert torch.equal(protected(weight, Floor(2, 0.3)), protected(other, Floor(2, 0.3)))


def two_layers() -> nn.Sequential:
    """A layer of large weights, and one of small ones that any global rule would empty."""
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 4, bias=False))
    with torch.no_grad():
        for p, size in zip(model.parameters(), (1.0, 0.01), strict=True):
            # From 1 to 2 times the size: all different, none zero.
            p.copy_(size * (1 + torch.rand(p.shape, generator=seeded(p.numel()))))
    return model


LAST = "1.weight"
FLOORS: list[dict[str, Any]] = [
    {"min_nonzero_per_unit": 1},
    {"min_nonzero_per_unit": {LAST: 1}},
    {"min_density": 0.1},
    {"min_density": {LAST: 0.1}},
]


@pytest.mark.parametrize("floor", FLOORS, ids=str)
@pytest.mark.parametrize("rule", ["threshold", "sparsity", "tolerance"])
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_a_layer_does_not_empty(rule: str, floor: dict[str, Any], with_optimizer: bool) -> None:
    model = two_layers()
    small = float(model[1].weight.detach().abs().sum())
    rules: dict[str, dict[str, Any]] = {
        "threshold": {"threshold": 0.5},
        "sparsity": {"sparsity": 80 / 140},
        # Half of the sum of magnitudes: all of the small layer and more than a third of the other.
        "tolerance": {"tolerance": kept_mass(model) / 2, "evaluate": kept_mass, "progress": False},
    }
    optimizer = dwf(model, BASES[0]) if with_optimizer else None
    report = sparsify(model, optimizer, **rules[rule], **floor)
    kept = model[1].weight.detach() != 0
    assert int(kept.sum()) == 4
    assert report.layers[1].nonzero == report.layers[1].protected == 4
    if "min_nonzero_per_unit" in floor:
        assert kept.sum(1).tolist() == [1, 1, 1, 1]
    assert f"kept by min_nonzero_per_unit or min_density: 4 of {LAST}" in str(report)
    assert report.to_dict()["protected"] == report.protected == 4
    if rule == "sparsity":
        assert report.nonzero == 60  # exact all the same: more of the other layer went
    if rule == "tolerance":
        assert report.metric_before - report.metric_after <= kept_mass(two_layers()) / 2
        assert report.metric_before - report.metric_after > small  # it went on past the small layer


def test_without_floors_a_layer_may_empty_and_the_report_says_so() -> None:
    model = two_layers()
    report = sparsify(model, threshold=0.5)
    assert report.protected == 0
    assert f"empty, so that nothing passes: {LAST}" in str(report)
    assert "kept by" not in str(report)


def test_all_that_may_go_can_be_asked_for_and_not_one_more() -> None:
    model = two_layers()
    before = snapshot(model)
    floor = {"min_nonzero_per_unit": 2}
    with pytest.raises(ValueError, match=r"leaves 27 of 140 .* keep 28: ask for at most 0\.8"):
        sparsify(model, sparsity=113 / 140, **floor)
    assert identical(snapshot(model), before)
    assert sparsify(model, sparsity=112 / 140, **floor).nonzero == 28


def test_a_tolerance_of_everything_leaves_the_floor() -> None:
    model = two_layers()
    report = sparsify(model, tolerance=1e9, evaluate=kept_mass, progress=False, min_nonzero_per_unit=1)
    assert [layer.nonzero for layer in report.layers] == [10, 4]


def test_zeros_of_before_are_not_brought_back() -> None:
    model = mlp()
    optimizer = dwf(model, BASES[0])
    train(model, optimizer, 2)
    with torch.no_grad():
        model[0].weight[0] = 0
    report = sparsify(model, optimizer, threshold=1e9, min_nonzero_per_unit=1)
    assert report.layers[0].nonzero == 7
    assert not model[0].weight[0].any()
    train(model, optimizer, 3)  # what was kept trains on, and what was not stays
    assert int(model[0].weight.count_nonzero()) == 7


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        ({"min_nonzero_per_unit": -1}, "a count, 0 or more, got -1"),
        ({"min_nonzero_per_unit": 0.5}, r"a count, 0 or more, got 0\.5"),
        ({"min_density": 5}, "a fraction of weights, 0 to 1, got 5"),
        ({"min_density": math.nan}, "got nan"),
        ({"min_density": {"head": 0.1}}, r"min_density names \['head'\].*there are \['0.weight'"),
    ],
)
def test_bad_floors_are_named(floor: dict[str, Any], message: str) -> None:
    model = mlp()
    before: list[Tensor] = snapshot(model)
    with pytest.raises(ValueError, match=message):
        sparsify(model, threshold=0.1, **floor)
    assert identical(snapshot(model), before)
