"""Convolutions of the native engine against torch in float64."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference import _native
from inference.graph import Activation, Add, Conv2d, Graph
from tests.inference.native.images import SETS, assert_close, normal, one_node, program, run, with_zeros

BATCHES = st.sampled_from([1, 2, 3, 15, 16, 17, 31, 32, 33])
FUNCTIONS = {None: lambda x: x, "relu": F.relu, "relu6": F.relu6, "silu": F.silu}


def reference(x, node):
    y = F.conv2d(
        x.double(), node.weight.double(), None, node.stride, node.padding, node.dilation, node.groups
    )
    if node.bias is not None:
        y = y + (node.bias.double() if node.bias.ndim == 3 else node.bias.double()[:, None, None])
    return FUNCTIONS[node.activation.kind if node.activation else None](y)


def outputs(size, kernel, stride, padding, dilation):
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@st.composite
def convolutions(draw):
    """A layer and the shapes of its input and output."""
    pair = lambda least, most: draw(st.tuples(st.integers(least, most), st.integers(least, most)))  # noqa: E731
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    each = draw(st.integers(1, 6))
    filters = groups * draw(st.integers(1, 9))
    if draw(st.booleans()) and draw(st.booleans()):  # depthwise
        groups, each = filters, 1
    kernel, stride, padding, dilation = pair(1, 5), pair(1, 3), pair(0, 2), pair(1, 3)
    least = [max(1, dilation[d] * (kernel[d] - 1) + 1 - 2 * padding[d]) for d in (0, 1)]
    size = [draw(st.integers(n, n + 24)) for n in least]
    seed = draw(st.integers(0, 99))
    weight = with_zeros(
        normal(filters, each, *kernel, seed=seed), draw(st.sampled_from([0, 0.5, 0.9, 1]))
    )
    shape = (filters, *(outputs(size[d], kernel[d], stride[d], padding[d], dilation[d]) for d in (0, 1)))
    bias = draw(st.sampled_from([None, (filters,), shape]))
    activation = draw(st.sampled_from([None, *map(Activation, ["relu", "relu6", "silu"])]))
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=weight,
        bias=None if bias is None else normal(*bias, seed=seed + 1),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=activation,
    )
    return node, (groups * each, *size), shape


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("kernel", ["sparse", "dense"])
@settings(max_examples=60, deadline=None)
@given(convolutions(), BATCHES, st.sampled_from([1, 16, 32, 64]))
def test_equals_torch(instruction_set, kernel, convolution, batch, widest):
    node, before, after = convolution
    x = normal(batch, *before, seed=2)
    graph = one_node(node, before, after)
    assert_close(run(graph, [x], instruction_set, widest, {"conv": kernel}), reference(x, node))


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("kernel", ["sparse", "dense"])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(
    ("channels", "size", "window"),
    [(64, 32, 3), (256, 8, 3), (300, 4, 3), (64, 2, 3), (96, 1, 3), (160, 16, 1)],
)
def test_many_channels(instruction_set, kernel, batch, channels, size, window):
    # More inputs than a panel holds, in images from many registers down to part of one.
    weight = with_zeros(normal(24, channels, window, window), 0.9)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=weight,
        bias=normal(24),
        padding=(window // 2, window // 2),
    )
    x = normal(batch, channels, size, size, seed=2)
    graph = one_node(node, (channels, size, size), (24, size, size))
    assert_close(run(graph, [x], instruction_set, 16, {"conv": kernel}), reference(x, node))


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("batch", [5, 16, 35])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((5, 3), (1, 2), (2, 0), (1, 2)),
        ((2, 2), (3, 1), (1, 1), (1, 1)),
        ((3, 1), (1, 1), (0, 0), (4, 1)),
        ((1, 1), (1, 1), (0, 0), (1, 1)),
        ((31, 3), (1, 1), (4, 1), (1, 1)),
    ],
)
def test_bands(instruction_set, batch, kernel, stride, padding, dilation):
    # Too large for a cache, so it goes band by band. Run twice, for what the first call leaves behind.
    weight = with_zeros(normal(40, 150, *kernel), 0.97)
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=weight,
        bias=normal(40),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    x = normal(batch, 150, 33, 21, seed=2)
    expected = reference(x, node)
    graph = one_node(node, tuple(x.shape[1:]), tuple(expected.shape[1:]))
    made = program(graph, instruction_set, 16)
    for _ in range(2):
        out = torch.full(expected.shape, float("nan"))
        made.run([x.numpy()], [out.numpy()])
        assert_close(out, expected)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "padding"), [(4, 1), (8, 1), (16, 1), (32, 1), (9, 0), (17, 2)])
@pytest.mark.parametrize("zeros", [0.5, 0.97])
def test_lone_images(instruction_set, stride, size, padding, zeros):
    # Rows of sizes that are copied by registers, and others; few and many weights to a window.
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=with_zeros(normal(20, 90, 3, 3), zeros),
        bias=normal(20),
        stride=(stride, stride),
        padding=(padding, padding),
    )
    x = normal(1, 90, size, size, seed=2)
    expected = reference(x, node)
    graph = one_node(node, tuple(x.shape[1:]), tuple(expected.shape[1:]))
    assert_close(run(graph, [x], instruction_set, 16), expected)


@st.composite
def small_convolutions(draw):
    """A layer of few positions, of which windows see more border than image."""
    pair = lambda least, most: draw(st.tuples(st.integers(least, most), st.integers(least, most)))  # noqa: E731
    size, kernel, stride, padding, dilation = pair(1, 3), pair(1, 3), pair(1, 2), pair(0, 2), pair(1, 2)
    after = tuple(outputs(size[d], kernel[d], stride[d], padding[d], dilation[d]) for d in (0, 1))
    assume(min(after) >= 1)
    groups, each, filters = draw(
        st.sampled_from([(1, 40, 33), (1, 7, 5), (3, 4, 4), (17, 1, 1), (6, 1, 2)])
    )
    shape = (groups * filters, *after)
    bias = draw(st.sampled_from([None, shape[:1], shape]))
    weight = normal(shape[0], each, *kernel, seed=draw(st.integers(0, 99)))
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=with_zeros(weight, draw(st.sampled_from([0, 0.5, 0.9, 1]))),
        bias=None if bias is None else normal(*bias, seed=1),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=draw(st.sampled_from([None, *map(Activation, ["relu", "relu6", "silu"])])),
    )
    return node, (groups * each, *size), shape


@pytest.mark.parametrize("instruction_set", SETS)
@settings(max_examples=60, deadline=None)
@given(small_convolutions(), st.sampled_from([1, 2, 17]), st.booleans(), st.booleans())
def test_small_images(instruction_set, convolution, batch, adds, bordered):
    node, before, after = convolution
    x, more = normal(batch, *before, seed=2), normal(batch, *after, seed=3)
    expected = F.conv2d(
        x.double(), node.weight.double(), None, node.stride, node.padding, node.dilation, node.groups
    )
    if node.bias is not None:
        expected = expected + (node.bias if node.bias.ndim == 3 else node.bias[:, None, None]).double()
    function = FUNCTIONS[node.activation.kind if node.activation else None]
    nodes, inputs, given_inputs, shapes = [node], ("x",), [x], {"x": before, "y": after}
    if adds:  # on the way, before the activation
        nodes = [
            replace(node, activation=None, output="sums"),
            Add(name="add", inputs=("more", "sums"), output="y", activation=node.activation),
        ]
        inputs, given_inputs = ("x", "more"), [x, more]
        shapes |= {"more": after, "sums": after}
        expected = expected + more.double()
    expected = function(expected)
    if bordered:  # by a reader that pads
        last = Conv2d(
            name="last", inputs=("y",), output="z", weight=normal(2, after[0], 3, 3), padding=(1, 1)
        )
        nodes.append(last)
        expected = reference(expected, last)
        shapes["z"] = tuple(expected.shape[1:])
    graph = Graph(inputs, ("z" if bordered else "y",), tuple(nodes), shapes)
    assert_close(run(graph, given_inputs, instruction_set), expected)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("panel", [None, 0, 1, 1000, 100000])
def test_any_panels(instruction_set, panel):
    weight = with_zeros(normal(7, 12, 3, 3), 0.5)
    builder = _native.Builder(instruction_set, 16)
    x, y = builder.value((12, 9, 9, 1, 1)), builder.value((7, 9, 9, 0, 0))
    builder.input(x)
    window = (3, 3, 1, 1, 1, 1, 1, 1)
    builder.dense_conv(x, y, weight.numpy(), window, panel=panel)
    given_x, out = normal(16, 12, 9, 9), torch.empty(16, 7, 9, 9)
    builder.build([y]).run([given_x.numpy()], [out.numpy()])
    assert_close(out, F.conv2d(given_x.double(), weight.double(), padding=1))


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("batch", [1, 16])
def test_nan_reaches_what_reads_it(instruction_set, batch):
    # Zero weights are skipped, so unlike in torch NaN goes only where a weight takes it.
    weight = torch.zeros(2, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=weight,
        padding=(1, 1),
        activation=Activation("relu"),
    )
    x = normal(batch, 1, 6, 6)
    x[0, 0, 2, 3] = float("nan")
    out = run(one_node(node, (1, 6, 6), (2, 6, 6)), [x], instruction_set)
    where = torch.isnan(out)
    assert where[0, 0, 2, 3]
    assert where.sum() == 1


class TestBadInput:
    def build(self, sizes=(2, 5, 5, 1, 1), output=(3, 5, 5, 0, 0), weights=54, **options):
        builder = _native.Builder("", 16)
        x, y = builder.value(sizes), builder.value(output)
        builder.input(x)
        options = {"window": (3, 3, 1, 1, 1, 1, 1, 1), **options}
        builder.dense_conv(x, y, normal(weights).numpy(), **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sizes": (2, 5, 5, 0, 1)}, "border is narrower"),
            ({"output": (3, 4, 5, 0, 0)}, "make 5 by 5"),
            ({"weights": 53}, "53 weights, expected 54"),
            ({"groups": 2}, "do not make 2 groups"),
            ({"groups": 0}, "do not make 0 groups"),
            ({"window": (3, 3, 0, 1, 1, 1, 1, 1)}, "at least 1"),
            ({"window": (9, 3, 1, 1, 1, 1, 1, 1)}, "does not fit"),
            ({"window": (2**63, 3, 1, 1, 1, 1, 1, 1)}, "at least 1"),
            ({"bias": normal(4).numpy()}, "bias has 4 elements"),
            ({"activation": "maximum"}, "maximum"),
            ({"added": 0}, "another shape"),
            ({"added": 7}, "no value 7"),
        ],
    )
    def test_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.build(**options)

    def test_what_it_takes(self):
        self.build()
