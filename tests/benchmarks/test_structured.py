"""The benchmark of structured groups: what it counts is what is there."""

from __future__ import annotations

import pytest

from benchmarks.structured_networks import NETWORKS


def test_operations_of_lenet_5() -> None:
    # Products and sums: 24^2 places of 20 filters of 25 weights, 8^2 of 50 of 500, and two matrices.
    expected = 2 * (24**2 * 20 * 25 + 8**2 * 50 * 500 + 800 * 500 + 500 * 10)
    network = NETWORKS["LeNet-5"]
    assert network.flops(network.widths) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_widths_are_those_of_the_network_built(name: str) -> None:
    network = NETWORKS[name]
    shapes = [p.shape for p in network.build(0).parameters()]
    assert [p.shape for p in network.of_widths(network.widths).parameters()] == shapes
    *gated, rest = network.groups(network.build(0))
    assert len(gated) == len(network.widths)
    assert rest["depth"] == 1


def test_a_network_without_a_layer_is_constant() -> None:
    network = NETWORKS["LeNet-5"]
    assert network.flops((20, 0, 500)) == 0
