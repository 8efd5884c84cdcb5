"""The native engine's sums, scales, activations, concatenations and softmax, and networks of them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from inference import _native
from inference.graph import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    Affine,
    Concat,
    Conv2d,
    Elementwise,
    Graph,
    Linear,
    Reshape,
    Softmax,
)
from inference.lowering.images import runs
from tests.inference.native.images import SETS, assert_close, normal, one_node, program, run, with_zeros

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 20))
)
BATCHES = st.sampled_from([1, 2, 16, 17, 33])
WIDEST = st.sampled_from([1, 16, 32, 64])
FUNCTIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
KINDS = st.sampled_from(list(FUNCTIONS))


def activation(kind):
    return None if kind is None else Activation(kind, 0.3)


@pytest.mark.parametrize("instruction_set", SETS)
class TestEqualsTorch:
    @settings(max_examples=40, deadline=None)
    @given(SHAPES, KINDS, BATCHES, WIDEST)
    def test_add(self, instruction_set, shape, kind, batch, widest):
        node = Add(name="add", inputs=("a", "b"), output="y", activation=activation(kind))
        a, b = normal(batch, *shape), normal(batch, *shape, seed=1)
        out = run(one_node(node, shape, shape, shape), [a, b], instruction_set, widest)
        assert_close(out, FUNCTIONS[kind](a.double() + b))

    @settings(max_examples=40, deadline=None)
    @given(SHAPES, KINDS, BATCHES, WIDEST)
    def test_affine(self, instruction_set, shape, kind, batch, widest):
        scale, shift = normal(shape[0], seed=3), normal(shape[0], seed=4)
        node = Affine(
            name="norm", inputs=("x",), output="y", scale=scale, shift=shift, activation=activation(kind)
        )
        x = normal(batch, *shape)
        each = (-1,) + (1,) * (len(shape) - 1)
        expected = x.double() * scale.reshape(each) + shift.reshape(each)
        out = run(one_node(node, shape, shape), [x], instruction_set, widest)
        assert_close(out, FUNCTIONS[kind](expected))

    @settings(max_examples=20, deadline=None)
    @given(SHAPES, KINDS.filter(bool), BATCHES, WIDEST)
    def test_elementwise(self, instruction_set, shape, kind, batch, widest):
        node = Elementwise(name="f", inputs=("x",), output="y", activation=activation(kind))
        x = normal(batch, *shape)
        out = run(one_node(node, shape, shape), [x], instruction_set, widest)
        assert_close(out, FUNCTIONS[kind](x.double()))

    @settings(max_examples=20, deadline=None)
    @given(SHAPES, BATCHES, WIDEST)
    def test_softmax(self, instruction_set, shape, batch, widest):
        node = Softmax(name="softmax", inputs=("x",), output="y", dim=1)
        x = 10 * normal(batch, *shape)
        out = run(one_node(node, shape, shape), [x], instruction_set, widest)
        assert_close(out, torch.softmax(x.double(), 1))

    @pytest.mark.parametrize("batch", [1, 17])
    def test_softmax_of_what_is_not_finite(self, instruction_set, batch):
        node = Softmax(name="softmax", inputs=("x",), output="y", dim=1)
        for odd in (float("nan"), float("inf"), float("-inf")):
            x = normal(batch, 10)
            x[0, 3] = odd
            expected = torch.softmax(x, 1)
            out = run(one_node(node, (10,), (10,)), [x], instruction_set)
            assert torch.equal(out.isnan(), expected.isnan())
            torch.testing.assert_close(out, expected, equal_nan=True, rtol=1e-5, atol=1e-7)

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 9), BATCHES, WIDEST)
    def test_concat(self, instruction_set, channels, width, batch, widest):
        names = tuple(f"x{k}" for k in range(len(channels)))
        node = Concat(name="concat", inputs=names, output="y", dim=1)
        xs = [normal(batch, c, 3, width, seed=c) for c in channels]
        shapes = [(c, 3, width) for c in (*channels, sum(channels))]
        assert torch.equal(run(one_node(node, *shapes), xs, instruction_set, widest), torch.cat(xs, 1))

    @settings(max_examples=20, deadline=None)
    @given(BATCHES, WIDEST)
    def test_reshape(self, instruction_set, batch, widest):
        # Between images that both have borders: convolutions read them.
        weight = normal(2, 6, 3, 3)
        nodes = (
            conv("first", "x", "a", normal(4, 2, 3, 3)),
            Reshape(name="reshape", inputs=("a",), output="b", shape=(6, 2, 7)),
            conv("second", "b", "c", weight),
        )
        shapes = {"x": (2, 3, 7), "a": (4, 3, 7), "b": (6, 2, 7), "c": (2, 2, 7)}
        graph = Graph(("x",), ("c",), nodes, shapes)
        x = normal(batch, 2, 3, 7)
        between = convolve(x.double(), nodes[0]).reshape(batch, 6, 2, 7)
        assert_close(run(graph, [x], instruction_set, widest), convolve(between, nodes[2]))


def conv(name, read, output, weight, **options):
    return Conv2d(name=name, inputs=(read,), output=output, weight=weight, padding=(1, 1), **options)


def convolve(x, node):
    return F.conv2d(
        x, node.weight.double(), None if node.bias is None else node.bias.double(), node.stride, 1
    )


def residual_block(order):
    """Two convolutions around which a third leads, and a mean: `order` of the two ways."""
    main = [
        conv(
            "conv1",
            "x",
            "a",
            with_zeros(normal(8, 4, 3, 3), 0.7),
            bias=normal(8),
            stride=(2, 2),
            activation=Activation("relu"),
        ),
        conv("conv2", "a", "b", with_zeros(normal(8, 8, 3, 3, seed=5), 0.7), bias=normal(8, seed=6)),
    ]
    short = Conv2d(
        name="short",
        inputs=("x",),
        output="s",
        weight=normal(8, 4, 1, 1, seed=7),
        bias=None,
        stride=(2, 2),
    )
    end = [
        Add(name="add", inputs=("b", "s"), output="t", activation=Activation("relu")),
        AdaptiveAvgPool2d(name="mean", inputs=("t",), output="y", size=(1, 1)),
    ]
    nodes = [*main, short, *end] if order == "short last" else [short, *main, *end]
    shapes = {"x": (4, 9, 11), "y": (8, 1, 1), **dict.fromkeys("abst", (8, 5, 6))}
    return Graph(("x",), ("y",), tuple(nodes), shapes), main, short


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("order", ["short last", "short first"])
@pytest.mark.parametrize("batch", [1, 16, 21])
def test_residual_block(instruction_set, order, batch):
    graph, main, short = residual_block(order)
    x = normal(batch, 4, 9, 11)
    a = F.relu(convolve(x.double(), main[0]))
    s = F.conv2d(x.double(), short.weight.double(), stride=2)
    expected = F.relu(convolve(a, main[1]) + s).mean((2, 3), keepdim=True)
    assert_close(run(graph, [x], instruction_set), expected)
    # The sum is computed by the convolution before it.
    assert "add" not in program(graph, instruction_set).kernels


@pytest.mark.parametrize("batch", [1, 16])
def test_sums_that_no_convolution_can_take(batch):
    # One whose value is read twice, one that has an activation, and a value added to itself.
    relu = Activation("relu")
    nodes = (
        conv("conv1", "x", "a", normal(3, 3, 3, 3)),
        conv("conv2", "a", "b", normal(3, 3, 3, 3, seed=2), activation=relu),
        Add(name="add1", inputs=("a", "b"), output="c"),
        conv("conv3", "c", "d", normal(3, 3, 3, 3, seed=3)),
        Add(name="add2", inputs=("d", "d"), output="e"),
        Add(name="add3", inputs=("e", "a"), output="y"),
    )
    graph = Graph(("x",), ("y",), nodes, dict.fromkeys("xabcdey", (3, 6, 6)))
    x = normal(batch, 3, 6, 6)
    a = convolve(x.double(), nodes[0])
    c = a + F.relu(convolve(a, nodes[1]))
    assert_close(run(graph, [x]), 2 * convolve(c, nodes[3]) + a)
    assert program(graph).kernels.count("add") == 3


def test_what_runs():
    graph = one_node(
        Concat(name="c", inputs=("a", "b"), output="y", dim=2), (2, 3, 4), (2, 3, 4), (2, 6, 4)
    )
    assert not runs(graph.nodes[0], graph)
    graph = one_node(Softmax(name="s", inputs=("x",), output="y", dim=2), (2, 3, 4), (2, 3, 4))
    assert not runs(graph.nodes[0], graph)
    graph = one_node(Add(name="a", inputs=("a", "b"), output="y"), (2, 3), (2, 3), (2, 3))
    assert runs(graph.nodes[0], graph)
    graph = one_node(Linear(name="l", inputs=("x",), output="y", weight=normal(2, 3)), (3,), (2,))
    assert not runs(graph.nodes[0], graph)  # that is for inference.native to say


class TestBadInput:
    def build(self, method, *arguments):
        builder = _native.Builder("", 16)
        for sizes in ((2, 3, 4, 0, 0), (2, 3, 4, 1, 1), (2, 3, 5, 0, 0)):
            builder.input(builder.value(sizes))
        getattr(builder, method)(*arguments)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (("add", 0, 1, 2), "different sizes"),
            (("add", 0, 9, 1), "no value 9"),
            (("affine", 0, 2, normal(2).numpy(), normal(2).numpy()), "different sizes"),
            (("affine", 0, 1, normal(3).numpy(), normal(2).numpy()), "3 and 2 elements"),
            (("concat", [0, 1], 2), "48 elements together"),
            (("softmax", 0, 2), "different sizes"),
            (("elementwise", 0, 2, "relu"), "different sizes"),
        ],
    )
    def test_is_refused(self, call, message):
        with pytest.raises(ValueError, match=message):
            self.build(*call)
