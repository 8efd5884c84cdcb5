"""Random sparse models in all kinds, on 1,000 inputs each, against float64."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings

from inference.graph import TorchOp
from inference.interpret import run as interpret
from inference.interpret import to_dtype
from inference.onnx import make_onnx
from tests.inference.graphs import graphs
from tests.inference.onnx.running import KINDS, TOLERANCE, run

INPUTS = 1000


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_random_models(graph):
    rounded = to_dtype(graph, torch.float32)
    exact = to_dtype(rounded, torch.float64)
    x = torch.randn(INPUTS, *graph.shapes["x"], generator=torch.Generator().manual_seed(0))
    expected = interpret(exact, [x.double()])
    # What an output is rounded by is in proportion to what it is a sum of: of all values on the way.
    scale = max(value.norm(dim=0).max() for value in _values(exact, x.double()))
    for kind in KINDS:
        found = run(make_onnx(rounded, x[:2], kind), [x])
        assert len(found) == len(expected)
        for array, right in zip(found, expected, strict=True):
            difference = (torch.from_numpy(array).double() - right).norm(dim=0)
            assert array.shape == tuple(right.shape)
            assert (difference <= TOLERANCE * torch.maximum(right.norm(dim=0), scale)).all()


def _values(graph, x):
    everything = tuple(node.output for node in graph.nodes)
    whole = type(graph)(graph.inputs, everything, graph.nodes, graph.shapes)
    assert all(isinstance(node.target, str) for node in graph.nodes if isinstance(node, TorchOp))
    return interpret(whole, [x])
