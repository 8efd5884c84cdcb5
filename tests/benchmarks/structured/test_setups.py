"""The networks are what they are said to be, and units of all of them can be removed exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.structured.method import Method, Settings
from benchmarks.structured.methods import METHODS
from benchmarks.structured.setups import SETUPS
from benchmarks.structured.speed import of_size
from benchmarks.structured.trial import configurations
from benchmarks.structured.units import norms, zero_smallest_
from inference import shrink_with_report

# Those that are traced in a second.
SMALL = ("digits", "lenet-5", "lenet-300-100", "small-vgg", "resnet-8", "transformer")


def test_operations_of_lenet_5() -> None:
    # Products and sums: 24^2 places of 20 filters of 25 weights, 8^2 of 50 of 500, and two matrices.
    expected = 2 * (24**2 * 20 * 25 + 8**2 * 50 * 500 + 800 * 500 + 500 * 10)
    setup = SETUPS["lenet-5"]
    _, report = shrink_with_report(setup.build(0).eval(), setup.example(2))
    assert report.flops == (expected, expected)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("digits", [16, 32, 64]),
        ("lenet-5", [20, 50, 500]),
        ("lenet-300-100", [784, 300, 100]),
        ("small-vgg", [16, 32, 64, 64]),
        ("resnet-8", [16, 32, 64]),
        ("transformer", [4, 256] * 4),
        ("vgg-16", [64, 64, 128, 128, *[256] * 3, *[512] * 6]),
        ("resnet-18", [64, 64, 128, 128, 256, 256, 512, 512]),
    ],
)
def test_units_of_a_network(name: str, widths: list[int]) -> None:
    setup = SETUPS[name]
    model = setup.build(0)
    units = setup.units(model)
    assert [len(norms(model, unit.gated)) for unit in units] == widths
    # A unit has one weight that makes it, one scale, and one that reads it.
    assert [len(norms(model, unit.maker)) for unit in units] == widths
    scales = [model.get_parameter(unit.scale) for unit in units if unit.scale]
    assert [len(scale) for scale in scales] in ([], widths)


@pytest.mark.parametrize("name", SETUPS)
def test_every_method_that_is_listed_fits(name: str) -> None:
    setup = SETUPS[name]
    units = setup.units(setup.build(0))
    for method in setup.strengths:
        assert METHODS[method].lacks(units) is None
    assert 0 < setup.finetune < setup.epochs
    configs = configurations(name)
    rates = {m: METHODS[m].finetune_rates if METHODS[m].finetunes else (0.0,) for m in METHODS}
    assert len(configs) == sum(len(tried) * len(rates[m]) for m, tried in setup.strengths.items())
    assert all(bool(c["finetune"]) == METHODS[c["method"]].finetunes for c in configs)


@pytest.mark.parametrize("name", SMALL)
def test_units_of_a_cut_network_are_gone(name: str) -> None:
    setup = SETUPS[name]
    model = setup.build(0).eval()
    method = Method(setup.units(model), Settings(0.1, 0.9, 0.0, 0))
    zero_smallest_(model, method.groups(), method.scores(model), 0.8)
    example = setup.example(4)
    small, report = shrink_with_report(model, example, select_inputs=True)
    assert report.flops is not None
    assert report.flops[1] < report.flops[0]
    # Of no meaning, but not all zero.
    inputs = torch.randint(0, 9, example.shape) if setup.text else torch.randn_like(example)
    # Outputs near 1 after sums of a thousand products in float32.
    torch.testing.assert_close(small(inputs), model(inputs), rtol=1e-4, atol=1e-4)


def test_a_network_of_a_size_has_it() -> None:
    small = of_size(SETUPS["lenet-5"], "dwf-3", [3, 7, 11])
    shapes = [tuple(m.weight.shape) for m in small.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert shapes == [(3, 1, 5, 5), (7, 3, 5, 5), (11, 112), (10, 11)]
