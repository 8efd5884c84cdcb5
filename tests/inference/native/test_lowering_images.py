"""What is decided before image layers become ops: borders, sums on the way, windows, lanes."""

import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from inference.graph import Add, Conv2d, Graph, Linear
from inference.lowering.context import borders, compressed_rows, fused_sums, lanes_for
from inference.lowering.windows import adaptive_spans, mean_spans, spans
from tests.inference.native.images import normal, with_zeros

SIZE = st.integers(1, 20)


def conv(name, read, output, padding=(0, 0), stride=(1, 1), channels=2):
    weight = normal(channels, channels, 1 + 2 * padding[0], 1 + 2 * padding[1])
    return Conv2d(
        name=name, inputs=(read,), output=output, weight=weight, padding=padding, stride=stride
    )


def graph(nodes, size=(20, 20), inputs=("x",), **others):
    names = {*inputs, *(node.output for node in nodes)}
    return Graph(
        inputs, (nodes[-1].output,), tuple(nodes), {**dict.fromkeys(names, (2, *size)), **others}
    )


def test_a_border_is_as_wide_as_any_reader_needs():
    nodes = [
        conv("a", "x", "a", (1, 0)),
        conv("b", "x", "b", (0, 2)),
        conv("c", "b", "c"),
        Add(name="sum", inputs=("a", "c"), output="y"),
    ]
    assert borders(graph(nodes)) == {"x": (1, 2), "b": (0, 0)}


def test_the_last_convolution_before_a_sum_computes_it():
    nodes = [
        conv("a", "x", "a"),
        conv("b", "x", "b"),
        Add(name="sum", inputs=("b", "a"), output="s"),
        conv("c", "s", "c"),
        Add(name="end", inputs=("x", "c"), output="y"),
    ]
    found = fused_sums(graph(nodes))
    assert {name: node.name for name, node in found.items()} == {"b": "sum", "c": "end"}


def test_an_output_of_the_graph_is_not_lost_in_a_sum():
    nodes = (conv("a", "x", "a"), Add(name="sum", inputs=("x", "a"), output="y"))
    assert fused_sums(Graph(("x",), ("a", "y"), nodes, dict.fromkeys("xay", (2, 3, 3)))) == {}


@given(SIZE, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.data())
def test_spans_are_the_windows_of_torch(size, kernel, stride, dilation, ceil_mode, data):
    padding = data.draw(st.integers(0, kernel // 2))
    assume(size + 2 * padding > dilation * (kernel - 1))
    # Powers of two tell which inputs a window has seen: their largest, and in a mean all of them.
    x = 2.0 ** torch.arange(size, dtype=torch.float64)[None, None]
    expected = F.max_pool1d(x, kernel, stride, padding, dilation, ceil_mode)[0, 0]
    windows = spans(size, len(expected), kernel, stride, padding, dilation)
    for (first, count, _), largest in zip(windows, expected.tolist(), strict=True):
        last = first + (count - 1) * dilation
        assert (2.0**last if count else float("-inf")) == largest


@given(SIZE, st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.data())
def test_means_are_those_of_torch(size, kernel, stride, ceil_mode, count_padding, data):
    padding = data.draw(st.integers(0, kernel // 2))
    assume(size + 2 * padding >= kernel)
    x = 2.0 ** torch.arange(size, dtype=torch.float64)
    expected = F.avg_pool1d(x[None, None], kernel, stride, padding, ceil_mode, count_padding)[0, 0]
    windows = mean_spans(size, len(expected), kernel, stride, padding, count_padding)
    means = [x[first : first + count].sum() / divisor for first, count, divisor in windows]
    torch.testing.assert_close(torch.stack(means), expected)


@given(SIZE, SIZE)
def test_adaptive_means_are_those_of_torch(size, outputs):
    x = 2.0 ** torch.arange(size, dtype=torch.float64)
    expected = F.adaptive_avg_pool1d(x[None, None], outputs)[0, 0]
    windows = adaptive_spans(size, outputs)
    means = [x[first : first + count].sum() / divisor for first, count, divisor in windows]
    torch.testing.assert_close(torch.stack(means), expected)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0]))
def test_compressed_rows_hold_the_matrix(rows, columns, zeros):
    weight = with_zeros(normal(rows, columns, 2, 2), zeros)
    if rows > 1:
        weight[0, 0, 0, 0] = float("nan")
    begins, indices, weights = compressed_rows(weight)
    dense = torch.zeros(rows, columns * 4)
    for row in range(rows):
        part = slice(begins[row], begins[row + 1])
        assert (indices[part][:-1] < indices[part][1:]).all()
        dense[row, indices[part]] = torch.from_numpy(weights[part])
    assert torch.equal(dense.nan_to_num(7), weight.reshape(rows, -1).nan_to_num(7))


def test_lanes():
    wide = graph([conv("a", "x", "a"), conv("b", "a", "y")])
    assert lanes_for(wide) == 1
    assert lanes_for(graph([conv("a", "x", "a"), conv("b", "a", "y")], (8, 8))) == 16
    assert lanes_for(graph([conv("a", "x", "y", stride=(1, 2))])) == 16
    linear = Linear(name="l", inputs=("x",), output="y", weight=normal(2, 2))
    assert lanes_for(Graph(("x",), ("y",), (linear,), dict.fromkeys("xy", (2,)))) == 64
