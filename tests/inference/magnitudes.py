"""How large the terms are that a graph sums up: the scale of its rounding errors."""

from __future__ import annotations

import dataclasses

import torch

from inference.graph import Add, Affine, Conv2d, Elementwise, Linear, Softmax
from inference.interpret import compute

# The largest slope of each activation that has slopes above 1, rounded up.
STEEPEST = {"gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1}


def magnitudes(graph, inputs):
    """Return, for each output, the sums of absolute terms.

    With numbers rounded by a share of u, the error of ``sum(w * x)`` is at most about ``n * u`` times
    ``sum(|w| * |x|)``, however much the terms cancel, and an error in ``x`` is passed on ``|w|`` times.
    So errors relative to these numbers stay of the order of u where errors relative to the outputs may
    not.

    Args:
        graph: In float64.
        inputs: One tensor for each of its inputs.
    """
    values = dict(zip(graph.inputs, inputs, strict=True))
    sizes = {name: x.abs() for name, x in values.items()}
    for node in graph.nodes:
        values[node.output] = compute(node, values)
        sizes[node.output] = _size(node, values, sizes)
    return [sizes[name] for name in graph.outputs]


def _size(node, values, sizes):
    read = [sizes[name] for name in node.inputs]
    made = values[node.output].abs()
    if isinstance(node, Linear | Conv2d | Affine | Add):
        constants = {
            field.name: value.abs()
            for field in dataclasses.fields(node)
            if isinstance(value := getattr(node, field.name), torch.Tensor)
        }
        alone = dataclasses.replace(node, activation=None, **constants)
        return _activated(compute(alone, sizes), node.activation, made)
    if isinstance(node, Elementwise):
        return _activated(*read, node.activation, made)
    if isinstance(node, Softmax):
        # The logarithm of the output is off by at most twice what an input is.
        return made * (1 + 2 * read[0].amax(node.dim, keepdim=True))
    return compute(node, sizes).abs()


def _activated(size, activation, made):
    if activation is None:
        return size
    # The error of what is read, passed on; and its own, relative to what it makes (sigmoid(0) is 0.5).
    return torch.maximum(size * STEEPEST.get(activation.kind, 1.0), made)
