"""The certificate sees what differs, and says on how much it looked."""

from __future__ import annotations

import math

import pytest
import torch

from inference.certificate import certify
from inference.graph import Graph, Linear, Ref, TorchOp


def linear(weight):
    node = Linear(name="fc", inputs=("x",), output="y", weight=torch.tensor(weight))
    return Graph(("x",), ("y",), (node,), {"x": (len(weight[0]),), "y": (len(weight),)})


def test_a_difference_on_given_inputs():
    batch = [torch.tensor([[1000.0, 0.0], [0.0, -2.0]])]
    found = certify(linear([[1.0, 3.0]]), linear([[1.0, 3.5]]), [batch])
    # On its own it would be 0.5 times the second input: 1 here, and about 10 times a normal draw.
    assert found.batches == 5
    assert found.scale == 1000.0
    assert 1.0 <= found.max_difference < 50
    assert found.relative == found.max_difference / 1000


def test_random_inputs_come_from_the_seed():
    first, second = linear([[1.0, 3.0]]), linear([[1.0, 3.5]])
    assert certify(first, second, seed=1) == certify(first, second, seed=1)
    assert certify(first, second, seed=1) != certify(first, second, seed=2)
    assert certify(first, second).batches == 4


def test_equal_graphs():
    found = certify(linear([[1.0, math.inf]]), linear([[1.0, math.inf]]))
    assert found.max_difference == found.relative == 0.0
    zero = certify(linear([[0.0, 0.0]]), linear([[0.0, 0.0]]))
    assert zero.scale == zero.relative == 0.0


def test_nan_in_one_graph_is_an_infinite_difference():
    assert certify(linear([[1.0]]), linear([[math.nan]])).max_difference == math.inf
    assert certify(linear([[math.nan]]), linear([[math.nan]])).max_difference == 0.0


def test_integer_inputs_have_to_be_given():
    table = torch.arange(6.0).view(3, 2)
    op = TorchOp(
        name="table", inputs=("x",), output="y", target="aten.embedding.default", args=(table, Ref("x"))
    )
    graph = Graph(("x",), ("y",), (op,), {"x": None, "y": (2,)})
    with pytest.raises(ValueError, match="pass inputs"):
        certify(graph, graph)
    found = certify(graph, graph, [[torch.tensor([0, 2])]])
    assert (found.scale, found.batches) == (5.0, 1)


def test_graphs_of_other_shapes():
    with pytest.raises(ValueError, match=r"outputs have shapes \[8, 1\] and \[8, 2\]"):
        certify(linear([[1.0]]), linear([[1.0], [2.0]]))
    two = linear([[1.0]])
    with pytest.raises(ValueError, match="number of their inputs or outputs"):
        certify(two, Graph(two.inputs, ("y", "y"), two.nodes, two.shapes))
