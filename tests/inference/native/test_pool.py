"""Pooling layers of the native engine against torch in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference import _native
from inference.graph import AdaptiveAvgPool2d, AvgPool2d, Conv2d, Graph, MaxPool2d
from tests.inference.native.images import SETS, assert_close, normal, one_node, run

BATCHES = st.sampled_from([1, 2, 16, 17, 33])
PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 19))
WIDEST = st.sampled_from([1, 16, 64])


def check(node, x, reference, instruction_set, widest):
    expected = reference(x.double())
    graph = one_node(node, tuple(x.shape[1:]), tuple(expected.shape[1:]))
    assert_close(run(graph, [x], instruction_set, widest), expected)


@pytest.mark.parametrize("instruction_set", SETS)
class TestEqualsTorch:
    @settings(max_examples=60, deadline=None)
    @given(SIZES, PAIR, PAIR, PAIR, st.booleans(), BATCHES, WIDEST, st.data())
    def test_max(self, instruction_set, size, kernel, stride, dilation, ceil_mode, batch, widest, data):
        padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
        for d in (0, 1):
            assume(size[1 + d] + 2 * padding[d] > dilation[d] * (kernel[d] - 1))
        node = MaxPool2d(
            name="pool",
            inputs=("x",),
            output="y",
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )
        # All below zero: padding must not win.
        x = -normal(batch, *size).abs()
        expected = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
        graph = one_node(node, size, tuple(expected.shape[1:]))
        assert torch.equal(run(graph, [x], instruction_set, widest), expected)

    @settings(max_examples=60, deadline=None)
    @given(
        SIZES,
        PAIR,
        PAIR,
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, 1, 7]),
        BATCHES,
        WIDEST,
        st.data(),
    )
    def test_mean(
        self, instruction_set, size, kernel, stride, ceil_mode, count, divisor, batch, widest, data
    ):
        padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
        for d in (0, 1):
            assume(size[1 + d] + 2 * padding[d] >= kernel[d])
        node = AvgPool2d(
            name="pool",
            inputs=("x",),
            output="y",
            kernel=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count,
            divisor=divisor,
        )
        options = (kernel, stride, padding, ceil_mode, count, divisor)
        check(node, normal(batch, *size), lambda x: F.avg_pool2d(x, *options), instruction_set, widest)

    @settings(max_examples=40, deadline=None)
    @given(SIZES, PAIR, BATCHES, WIDEST)
    def test_adaptive_mean(self, instruction_set, size, outputs, batch, widest):
        node = AdaptiveAvgPool2d(name="pool", inputs=("x",), output="y", size=outputs)
        check(
            node,
            normal(batch, *size),
            lambda x: F.adaptive_avg_pool2d(x, outputs),
            instruction_set,
            widest,
        )


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 3), (4, 19)])
def test_largest_passes_nan_and_infinity_on(instruction_set, batch, place):
    node = MaxPool2d(
        name="pool", inputs=("x",), output="y", kernel=(3, 3), stride=(2, 2), padding=(1, 1)
    )
    for odd in (float("nan"), float("inf"), float("-inf")):
        x = normal(batch, 2, 5, 20)
        x[:, :, place[0], place[1]] = odd
        expected = F.max_pool2d(x, 3, 2, 1)
        out = run(one_node(node, (2, 5, 20), tuple(expected.shape[1:])), [x], instruction_set)
        assert torch.equal(out.isnan(), expected.isnan())
        assert torch.equal(out.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 2, 1.0)], "1 windows for 2 outputs"),
        ([(0, 2, 1.0), (3, 2, 1.0)], "a window of 2 from 3 on is not inside of 4"),
        ([(0, 2, 1.0), (9, 1, 1.0)], "not inside of 4"),
    ],
)
def test_windows_outside_are_refused(rows, message):
    builder = _native.Builder("", 16)
    x, y = builder.value((1, 4, 4, 0, 0)), builder.value((1, 2, 2, 0, 0))
    builder.input(x)
    with pytest.raises(ValueError, match=message):
        builder.pool(x, y, True, rows, [(0, 2, 1.0), (2, 2, 1.0)])


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("channels", [1, 5, 32])
@pytest.mark.parametrize("size", [(2, 2), (4, 4), (6, 8), (8, 16), (10, 6), (32, 32), (4, 44), (64, 24)])
@pytest.mark.parametrize("bordered", [False, True])
def test_windows_of_two_by_two(instruction_set, largest, channels, size, bordered):
    # Of a lone image, many at once: rows of a part of a register, of one, and of one and a half.
    kind = MaxPool2d if largest else AvgPool2d
    node = kind(name="pool", inputs=("x",), output="y", kernel=(2, 2), stride=(2, 2))
    x = normal(1, channels, *size)
    expected = (F.max_pool2d if largest else F.avg_pool2d)(x.double(), 2)
    nodes, output = [node], "y"
    shapes = {"x": tuple(x.shape[1:]), "y": tuple(expected.shape[1:])}
    if bordered:  # by a reader that pads
        weight = normal(3, channels, 3, 3)
        nodes.append(Conv2d(name="conv", inputs=("y",), output="z", weight=weight, padding=(1, 1)))
        expected, output = F.conv2d(expected, weight.double(), padding=1), "z"
        shapes["z"] = tuple(expected.shape[1:])
    graph = Graph(("x",), (output,), tuple(nodes), shapes)
    assert_close(run(graph, [x], instruction_set), expected)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("size", [2, 8, 16, 64])
def test_nan_comes_out_of_windows_of_two_by_two(instruction_set, size):
    x = normal(1, 3, size, size)
    for channel, (row, column) in enumerate([(0, 1), (1, 0), (1, 1)]):
        x[0, channel, row, column] = float("nan")
    node = MaxPool2d(name="pool", inputs=("x",), output="y", kernel=(2, 2), stride=(2, 2))
    out = run(one_node(node, (3, size, size), (3, size // 2, size // 2)), [x], instruction_set)
    assert torch.isnan(out).sum() == 3
    assert torch.isnan(out[0, :, 0, 0]).all()
