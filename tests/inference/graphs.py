"""Hypothesis strategies for layer graphs with zeros here and there, and in whole rows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from inference.graph import (
    ACTIVATIONS,
    Activation,
    AdaptiveAvgPool2d,
    Add,
    Affine,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    Graph,
    Linear,
    MaxPool2d,
    Ref,
    Reshape,
    Softmax,
    TorchOp,
)
from inference.interpret import compute


class Builder:
    """Appends layers to a graph; shapes come from running them."""

    def __init__(self, shape, seed, sparsity, dead):
        self.random = np.random.default_rng(seed)
        self.sparsity, self.dead = sparsity, dead
        self.nodes, self.shapes = [], {"x": tuple(shape)}
        self.last = "x"

    def weight(self, *shape):
        """Draw weights of which some are zero, and of which whole rows and columns may be."""
        weight = self.random.standard_normal(shape)
        weight[self.random.random(shape) < self.sparsity] = 0
        weight[self.random.random(shape[0]) < self.dead] = 0
        weight[:, self.random.random(shape[1]) < self.dead] = 0
        return torch.from_numpy(weight)

    def vector(self, size, zeros=0.0):
        values = self.random.standard_normal(size)
        values[self.random.random(size) < zeros] = 0
        return torch.from_numpy(values)

    def append(self, kind, *inputs, **options):
        inputs = inputs or (self.last,)
        name = f"v{len(self.nodes)}"
        node = kind(name=name, inputs=inputs, output=name, **options)
        values = {key: torch.zeros(1, *self.shapes[key], dtype=torch.float64) for key in inputs}
        self.shapes[name] = tuple(compute(node, values).shape[1:])
        self.nodes.append(node)
        self.last = name
        return name

    def graph(self, *outputs):
        return Graph(("x",), outputs or (self.last,), tuple(self.nodes), self.shapes)


activations = st.one_of(st.none(), st.sampled_from(ACTIVATIONS).map(lambda kind: Activation(kind, 0.1)))


def add_linear(draw, b):
    size = draw(st.integers(1, 6))
    bias = b.vector(size) if draw(st.booleans()) else None
    weight = b.weight(size, b.shapes[b.last][-1])
    b.append(Linear, weight=weight, bias=bias, activation=draw(activations))


def add_conv(draw, b, channels=None, same=False):
    """Append a convolution; ``same`` keeps the image's size."""
    before, height, width = b.shapes[b.last]
    groups = draw(st.sampled_from([g for g in (1, 2, before) if before % g == 0]))
    out = channels or groups * draw(st.integers(1, 3))
    groups = groups if out % groups == 0 else 1
    kernel = (1, 1) if same and draw(st.booleans()) else (min(3, height), min(3, width))
    kernel = (3, 3) if same and kernel != (1, 1) else kernel
    padding = (kernel[0] // 2, kernel[1] // 2) if same or draw(st.booleans()) else (0, 0)
    wide = min(height + 2 * padding[0], width + 2 * padding[1])
    dilation = 2 if not same and wide >= 5 and draw(st.booleans()) else 1
    bias = b.vector(out) if draw(st.booleans()) else None
    b.append(
        Conv2d,
        weight=b.weight(out, before // groups, *kernel),
        bias=bias,
        stride=(1, 1) if same else (draw(st.integers(1, 2)), 1),
        padding=padding,
        dilation=(dilation, dilation),
        groups=groups,
        activation=draw(activations),
    )


def add_pool(draw, b):
    _, height, width = b.shapes[b.last]
    kernel = (min(height, draw(st.integers(1, 3))), min(width, draw(st.integers(1, 3))))
    padding = (kernel[0] // 2, kernel[1] // 2) if draw(st.booleans()) else (0, 0)
    options = {"kernel": kernel, "stride": (draw(st.integers(1, 2)), 2), "padding": padding}
    options["ceil_mode"] = draw(st.booleans())
    kind = draw(st.sampled_from([MaxPool2d, AvgPool2d, AdaptiveAvgPool2d]))
    if kind is AdaptiveAvgPool2d:
        b.append(kind, size=(draw(st.integers(1, 3)), draw(st.integers(1, 3))))
    elif kind is AvgPool2d:
        divisor = draw(st.sampled_from([None, 3]))
        b.append(kind, **options, count_include_pad=draw(st.booleans()), divisor=divisor)
    else:
        b.append(kind, **options)


def add_residual(draw, b):
    """Append layers and the sum of what was before with what comes out."""
    before, channels = b.last, b.shapes[b.last][0]
    if len(b.shapes[before]) == 3:
        add_conv(draw, b, same=True)
        add_conv(draw, b, channels=channels, same=True)
    else:
        add_linear(draw, b)
        b.append(Linear, weight=b.weight(b.shapes[before][-1], b.shapes[b.last][-1]))
    terms = (b.last, before) if draw(st.booleans()) else (before, b.last)
    b.append(Add, *terms, activation=draw(activations))


def add_concat(draw, b):
    before = b.last
    rank = len(b.shapes[before])
    if rank == 3:
        add_conv(draw, b, same=True)
    else:
        add_linear(draw, b)
    made = b.last
    others = [before, made, before] if draw(st.booleans()) else [made, before]
    b.append(Concat, *others, dim=1 if rank == 3 else rank)


def add_affine(draw, b):
    channels = b.shapes[b.last][0]
    scale = b.vector(channels, zeros=0.3)
    b.append(Affine, scale=scale, shift=b.vector(channels), activation=draw(activations))


def add_elementwise(draw, b):
    b.append(Elementwise, activation=draw(activations) or Activation("tanh"))


def add_softmax(draw, b):
    b.append(Softmax, dim=draw(st.integers(1, len(b.shapes[b.last]))))


def add_reshape(draw, b):
    """Append another shape: flat, or split in two or three dimensions."""
    size = int(np.prod(b.shapes[b.last]))
    first = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
    rest = size // first
    second = draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
    shapes = [(size,), (first, rest), (first, second, rest // second)]
    b.append(Reshape, shape=draw(st.sampled_from(shapes)))


def add_operator(draw, b):
    b.append(TorchOp, target="aten.neg.default", args=(Ref(b.last),))


ANY_RANK = [add_linear, add_elementwise, add_affine, add_softmax, add_reshape, add_operator]
STEPS = {
    1: [*ANY_RANK, add_linear, add_linear, add_residual, add_concat],
    2: [*ANY_RANK, add_linear, add_residual, add_concat],
    3: [*ANY_RANK, add_conv, add_conv, add_conv, add_pool, add_residual, add_residual, add_concat],
}


@st.composite
def graphs(draw, steps=STEPS, largest=7):
    """Draw a graph of up to `largest` steps over features, tokens or images."""
    shape = draw(st.sampled_from([(5,), (3, 4), (2, 5, 6), (4, 4, 3)]))
    sparsity, dead = draw(st.sampled_from([(0.0, 0.0), (0.5, 0.2), (0.8, 0.3), (0.95, 0.5), (1.0, 0.0)]))
    b = Builder(shape, draw(st.integers(0, 2**32 - 1)), sparsity, dead)
    for _ in range(draw(st.integers(1, largest))):
        draw(st.sampled_from(steps[len(b.shapes[b.last])]))(draw, b)
        if np.prod(b.shapes[b.last]) > 2000:
            break
    more = draw(st.sampled_from([(), ("x",), (b.nodes[0].output,)]))
    return b.graph(b.last, *more)
