"""What the tests of the image ops share: programs from graphs, and how far from float64 they may be."""

import numpy as np
import torch

from inference import _native
from inference.graph import Graph
from inference.lowering.context import Context
from inference.lowering.images import LOWERINGS, runs

SETS = _native.instruction_sets()
# Of the norm, as promised for every kernel.
TOLERANCE = 1e-5


def program(graph, instruction_set="", widest=64, kernels=None):
    """Build a program from nodes that `inference.lowering.images` knows."""
    assert all(runs(node, graph) for node in graph.nodes)
    context = Context(_native.Builder(instruction_set, widest), graph, kernels or {})
    for name in graph.inputs:
        context.builder.input(context.value(name))
    for node in graph.nodes:
        LOWERINGS[type(node)](context, node)
    return context.builder.build([context.value(name) for name in graph.outputs])


def run(graph, inputs, instruction_set="", widest=64, kernels=None):
    """Run a graph with one output through the native engine, into memory full of NaN."""
    batch = len(inputs[0])
    (output,) = graph.outputs
    out = torch.full((batch, *graph.shapes[output]), float("nan"))
    program(graph, instruction_set, widest, kernels).run([x.numpy() for x in inputs], [out.numpy()])
    return out


def one_node(node, *shapes):
    """Return the graph of one node, by the shapes of its inputs and its output."""
    names = (*node.inputs, node.output)
    return Graph(node.inputs, (node.output,), (node,), dict(zip(names, shapes, strict=True)))


def assert_close(out, expected):
    """Compare with a float64 reference by norm."""
    assert expected.dtype == torch.float64
    assert out.shape == expected.shape
    error = torch.linalg.vector_norm(out - expected)
    assert error <= TOLERANCE * torch.linalg.vector_norm(expected), f"off by {error}"


def normal(*shape, seed=0):
    """Return standard normal numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def with_zeros(tensor, share, seed=1):
    """Return the tensor with about so large a share of zeros."""
    keep = torch.from_numpy(np.random.default_rng(seed).random(tuple(tensor.shape)) >= share)
    return tensor * keep
