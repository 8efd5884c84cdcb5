"""Compaction changes sizes, not outputs, and leaves nothing that its rules could still remove."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.networks import NETWORKS, prune_
from inference.capture import capture
from inference.certificate import certify
from inference.compact import compact
from inference.graph import (
    Activation,
    Add,
    Affine,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    Linear,
    MaxPool2d,
    Ref,
    Reshape,
    Softmax,
    TorchOp,
)
from inference.interpret import compute, run, to_dtype
from tests.inference.graphs import Builder, graphs

RELU, TANH = Activation("relu"), Activation("tanh")


def assert_same(before, after, bound=1e-12):
    """Compare on random inputs, relative to the norm, and the declared shapes with the real ones."""
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        shape = (batch, *before.shapes["x"])
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        for truth, y in zip(run(before, [x]), run(after, [x]), strict=True):
            assert y.shape == truth.shape
            assert (y - truth).norm() <= bound * (1 + truth.norm())
        values = {"x": x}
        for node in after.nodes:
            values[node.output] = compute(node, values)
            assert tuple(values[node.output].shape[1:]) == after.shapes[node.output]


def sizes(graph):
    return {name: shape for name, shape in graph.shapes.items()}


@given(graphs())
def test_any_graph_computes_the_same(graph):
    after = compact(graph)
    assert_same(graph, after)
    assert after.inputs == graph.inputs
    assert after.outputs == graph.outputs
    assert all(math.prod(after.shapes[name]) <= math.prod(graph.shapes[name]) for name in after.shapes)
    assert certify(graph, after).max_difference <= 1e-10 * (1 + certify(graph, after).scale)


@given(graphs())
def test_a_fixed_point(graph):
    once = compact(graph)
    twice = compact(once)
    assert sizes(twice) == sizes(once)
    for first, second in zip(once.layers(), twice.layers(), strict=True):
        assert torch.equal(first.weight, second.weight)


def effect(graph, value, unit, x):
    """Tell whether a unit differs between inputs, and whether an output feels a change of it."""
    values, moved = {"x": x}, {"x": x}
    for node in graph.nodes:
        values[node.output], moved[node.output] = compute(node, values), compute(node, moved)
        if node.output == value:
            noise = torch.randn(x.shape[0], generator=torch.Generator().manual_seed(1)).double()
            moved[value] = moved[value].clone()
            picked = moved[value].movedim(-1 if x.dim() == 2 else 1, 0)
            picked[unit] += noise.view(-1, *(1,) * (picked.dim() - 2))
    varies = values[value].movedim(-1 if x.dim() == 2 else 1, 0)[unit]
    felt = any(not torch.equal(values[name], moved[name]) for name in graph.outputs)
    return bool((varies != varies[:1]).any()), felt


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.7, 0.85, 0.95]), st.booleans())
def test_nothing_removable_is_left_in_chains(seed, sparsity, images):
    """With activations that never saturate on such inputs, what is felt is what has a path."""
    b = Builder((3, 4, 7) if images else (6,), seed, sparsity, 0.1)
    for size in (8, 7, 9, 5):
        fan_in = b.shapes[b.last][0]
        if images:
            b.append(Conv2d, weight=b.weight(size, fan_in, 2, 2), bias=b.vector(size), padding=(1, 0),
                     activation=TANH)  # fmt: skip
        else:
            b.append(Linear, weight=b.weight(size, fan_in), bias=b.vector(size), activation=TANH)
    after = compact(b.graph())
    x = torch.randn(4, *after.shapes["x"], generator=torch.Generator().manual_seed(seed)).double()
    for node in after.nodes[:-1]:
        units = after.shapes[node.output][0]
        effects = [effect(after, node.output, unit, x) for unit in range(units)]
        assert units == 1 or all(varies and felt for varies, felt in effects)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.6, 0.8, 0.9]))
def test_nothing_removable_is_left_in_residual_streams(seed, sparsity):
    b = Builder((4,), seed, sparsity, 0.2)
    b.append(Linear, weight=b.weight(7, 4), bias=b.vector(7))
    stream = [b.last]
    for _ in range(2):
        b.append(Linear, b.last, weight=b.weight(6, 7), bias=b.vector(6), activation=TANH)
        stream.append(b.append(Linear, weight=b.weight(7, 6)))
        stream.append(b.append(Add, b.last, stream[-2]))
    b.append(Linear, weight=b.weight(3, 7))
    after = compact(b.graph())
    width = after.shapes[stream[0]][0]
    assert all(after.shapes[name] == (width,) for name in stream)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)).double()
    for unit in range(width if width > 1 else 0):
        effects = [effect(after, name, unit, x) for name in stream]
        # Some value that shares the unit matters; the last sum varies if any of its terms does.
        assert any(felt for _, felt in effects)


def build(shape, *steps):
    b = Builder(shape, 0, 0.0, 0.0)
    for kind, options in steps:
        b.append(kind, **options)
    return b.graph()


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


def without(weight, rows=(), columns=()):
    weight[list(rows)] = 0
    weight[:, list(columns)] = 0
    return weight


def test_a_unit_that_nobody_reads_goes():
    after = compact(
        build(
            (3,),
            (Linear, {"weight": ones(4, 3), "bias": ones(4), "activation": RELU}),
            (Linear, {"weight": without(ones(2, 4), columns=[1, 2])}),
        )
    )
    first, second = after.layers()
    assert first.weight.shape == (2, 3)
    assert second.weight.shape == (2, 2)
    assert second.bias is None


def test_removals_go_on_to_a_fixed_point():
    # Unit 0 of each layer is read only by unit 0 of the next, which nobody reads.
    weight = ones(3, 3)
    weight[1:, 0] = 0
    steps = [(Linear, {"weight": weight.clone(), "activation": TANH}) for _ in range(3)]
    after = compact(build((3,), *steps, (Linear, {"weight": without(ones(2, 3), columns=[0])})))
    assert [layer.weight.shape[0] for layer in after.layers()] == [2, 2, 2, 2]
    assert next(after.layers()).weight.shape[1] == 3


def test_a_constant_unit_moves_into_the_next_bias():
    bias = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    graph = build(
        (3,),
        (Linear, {"weight": without(ones(3, 3), rows=[0, 2]), "bias": bias, "activation": RELU}),
        (Linear, {"weight": 2 * ones(2, 3)}),
    )
    after = compact(graph)
    first, second = after.layers()
    assert first.weight.shape == (1, 3)
    assert second.bias.tolist() == [5.0, 5.0]
    assert_same(graph, after)


def conv(out, channels, **options):
    return Conv2d, {"weight": ones(out, channels, 3, 3), **options}


@pytest.mark.parametrize(("padding", "dims"), [((1, 1), 3), ((0, 0), 1)])
def test_a_constant_filter_moves_into_a_map_where_there_is_padding(padding, dims):
    bias = torch.tensor([1.0, 2.0], dtype=torch.float64)
    graph = build(
        (1, 5, 6),
        (Conv2d, {"weight": without(ones(2, 1, 3, 3), rows=[1]), "bias": bias, "padding": (1, 1)}),
        conv(3, 2, padding=padding, bias=ones(3)),
    )
    after = compact(graph)
    first, second = after.layers()
    assert first.weight.shape[0] == 1
    assert second.bias.dim() == dims
    if dims == 3:
        assert second.bias[0, :2, :2].tolist() == [[9.0, 13.0], [13.0, 19.0]]
    else:
        assert second.bias.tolist() == [19.0] * 3
    assert_same(graph, after)
    # A map is a bias like any other when it comes in.
    assert_same(after, compact(after))


@pytest.mark.parametrize(
    ("pool", "dims"),
    [
        ((MaxPool2d, {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}), 1),
        ((AvgPool2d, {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}), 3),
        (
            (
                AvgPool2d,
                {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "count_include_pad": False},
            ),
            1,
        ),
    ],
)
def test_constants_go_through_pools(pool, dims):
    bias = torch.tensor([1.0, -2.0], dtype=torch.float64)
    graph = build(
        (1, 6, 6),
        (Conv2d, {"weight": without(ones(2, 1, 1, 1), rows=[1]), "bias": bias}),
        pool,
        (Conv2d, {"weight": ones(3, 2, 1, 1)}),
    )
    after = compact(graph)
    assert [layer.weight.shape[:2] for layer in after.layers()] == [(1, 1), (3, 1)]
    assert list(after.layers())[1].bias.dim() == dims
    assert_same(graph, after)


def test_a_channel_covers_its_features_behind_a_flatten():
    weight = ones(2, 12)
    weight[:, 4:8] = 0  # All of channel 1, but only a part of channel 2:
    weight[:, 8:11] = 0
    graph = build(
        (2, 2, 2),
        (Conv2d, {"weight": ones(3, 2, 1, 1)}),
        (Reshape, {"shape": (12,)}),
        (Linear, {"weight": weight}),
    )
    after = compact(graph)
    assert after.nodes[1].shape == (8,)
    assert [layer.weight.shape[:2] for layer in after.layers()] == [(2, 2), (2, 8)]
    assert_same(graph, after)


def test_a_zero_scale_makes_a_channel_constant():
    scale = torch.tensor([-1.0, 0.0, 0.1], dtype=torch.float64)
    graph = build(
        (2, 4, 4),
        (Conv2d, {"weight": ones(3, 2, 1, 1)}),
        (Affine, {"scale": scale, "shift": ones(3), "activation": RELU}),
        conv(2, 3, padding=(1, 1)),
    )
    after = compact(graph)
    assert [layer.weight.shape[:2] for layer in after.layers()] == [(2, 2), (2, 2)]
    assert after.nodes[1].scale.tolist() == [-1.0, 0.1]
    assert_same(graph, after)


def residual(first, second, last):
    b = Builder((3,), 0, 0.0, 0.0)
    one = b.append(Linear, "x", weight=first)
    two = b.append(Linear, "x", weight=second)
    b.append(Add, one, two, activation=RELU)
    b.append(Linear, weight=last)
    return b.graph()


def test_a_sum_loses_a_unit_only_if_nobody_reads_it():
    dead, alive = without(ones(4, 3), rows=[1]), ones(4, 3)
    after = compact(residual(dead, alive, ones(2, 4)))
    assert [layer.weight.shape[0] for layer in after.layers()] == [4, 4, 2]
    after = compact(residual(dead, dead.clone(), ones(2, 4)))
    assert [layer.weight.shape[0] for layer in after.layers()] == [3, 3, 2]
    after = compact(residual(alive, alive.clone(), without(ones(2, 4), columns=[0, 3])))
    assert [layer.weight.shape[0] for layer in after.layers()] == [2, 2, 2]


def test_a_unit_of_a_sum_that_another_layer_reads_stays():
    b = Builder((3,), 0, 0.0, 0.0)
    one = b.append(Linear, "x", weight=ones(4, 3))
    two = b.append(Linear, "x", weight=ones(4, 3))
    b.append(Add, one, two)
    first = b.append(Linear, weight=without(ones(2, 4), columns=[0, 1]))
    second = b.append(Linear, one, weight=without(ones(2, 4), columns=[1, 2, 3]))
    graph = b.graph(first, second)
    after = compact(graph)
    assert after.shapes[one] == after.shapes[two] == (3,)
    # Unit 0 of the second term is there for the first one only, and needs no weights.
    assert (next(n for n in after.nodes if n.output == two).weight != 0).any(1).tolist() == [
        False,
        True,
        True,
    ]
    assert_same(graph, after)


def test_concatenated_values_lose_their_own_units():
    b = Builder((3,), 0, 0.0, 0.0)
    one = b.append(Linear, "x", weight=ones(4, 3), activation=TANH)
    two = b.append(Linear, "x", weight=ones(2, 3), activation=TANH)
    b.append(Concat, one, two, dim=1)
    b.append(Linear, weight=without(ones(2, 6), columns=[0, 5]))
    after = compact(b.graph())
    assert [layer.weight.shape for layer in after.layers()] == [(3, 3), (1, 3), (2, 4)]
    assert_same(b.graph(), after)


def test_depthwise_channels_go_one_by_one():
    graph = build(
        (2, 5, 5),
        (Conv2d, {"weight": ones(6, 2, 1, 1)}),
        (Conv2d, {"weight": without(ones(6, 1, 3, 3), rows=[2]), "groups": 6, "padding": (1, 1)}),
        (Conv2d, {"weight": without(ones(3, 6, 1, 1), columns=[0, 4])}),
    )
    after = compact(graph)
    assert [layer.weight.shape[:2] for layer in after.layers()] == [(3, 2), (3, 1), (3, 3)]
    assert list(after.layers())[1].groups == 3
    assert_same(graph, after)


def test_groups_stay_of_one_size():
    # Of three groups of two outputs, the first is not read, of the others one and both are.
    graph = build(
        (2, 3, 3),
        (Conv2d, {"weight": ones(6, 2, 1, 1)}),
        (Conv2d, {"weight": ones(6, 2, 1, 1), "groups": 3}),
        (Conv2d, {"weight": without(ones(3, 6, 1, 1), columns=[0, 1, 2])}),
    )
    after = compact(graph)
    grouped = list(after.layers())[1]
    assert grouped.groups == 2
    assert grouped.weight.shape == (4, 2, 1, 1)
    assert (grouped.weight != 0).flatten(1).any(1).tolist() == [False, True, True, True]
    assert_same(graph, after)


@pytest.mark.parametrize(
    "barrier",
    [
        (Softmax, {"dim": 1}),
        (TorchOp, {"target": "aten.neg.default", "args": (Ref("v0"),)}),
    ],
)
def test_what_reads_all_units_keeps_them(barrier):
    graph = build(
        (3,),
        (Linear, {"weight": without(ones(4, 3), rows=[0])}),
        barrier,
        (Linear, {"weight": without(ones(2, 4), columns=[1, 2])}),
    )
    after = compact(graph)
    assert [layer.weight.shape for layer in after.layers()] == [(4, 3), (2, 4)]
    assert_same(graph, after)


def test_a_softmax_over_positions_is_no_barrier():
    graph = build(
        (2, 3, 3),
        (Conv2d, {"weight": ones(4, 2, 1, 1)}),
        (Softmax, {"dim": 3}),
        (Elementwise, {"activation": RELU}),
        (Conv2d, {"weight": without(ones(2, 4, 1, 1), columns=[0, 1])}),
    )
    after = compact(graph)
    assert after.shapes["v1"] == (2, 3, 3)
    assert_same(graph, after)


def test_layers_that_are_all_zero_keep_one_unit():
    for rows in ((), range(4)):
        graph = build(
            (3,),
            (Linear, {"weight": without(ones(4, 3), rows=rows), "bias": ones(4), "activation": RELU}),
            (Linear, {"weight": ones(2, 4) * len(rows), "bias": ones(2)}),
        )
        after = compact(graph)
        assert [layer.weight.shape for layer in after.layers()] == [(1, 3), (2, 1)]
        assert not any(layer.weight.any() for layer in after.layers())
        assert_same(graph, after)


def test_a_map_is_not_made_for_channels_that_stay_anyway():
    b = Builder((3, 4, 4), 0, 0.0, 0.0)
    stem = b.append(Conv2d, weight=without(ones(4, 3, 1, 1), rows=[0]), bias=ones(4))
    branch = b.append(Conv2d, weight=ones(4, 4, 3, 3), padding=(1, 1))
    b.append(Add, stem, branch)
    b.append(Conv2d, weight=ones(2, 4, 1, 1))
    after = compact(b.graph())
    assert after.shapes[stem] == (4, 4, 4)
    assert all(layer.bias is None or layer.bias.dim() == 1 for layer in after.layers())
    assert_same(b.graph(), after)


def test_constants_that_are_not_finite_stay_where_they_are():
    bias = torch.tensor([torch.inf, 1.0], dtype=torch.float64)
    graph = build(
        (3,),
        (Linear, {"weight": without(ones(2, 3), rows=[0]), "bias": bias}),
        (Linear, {"weight": ones(2, 2)}),
    )
    assert [layer.weight.shape for layer in compact(graph).layers()] == [(2, 3), (2, 2)]


def test_the_dtype_and_the_graph_stay():
    graph = build(
        (3,),
        (Linear, {"weight": without(ones(2, 3), rows=[0]), "bias": ones(2)}),
        (Linear, {"weight": ones(2, 2)}),
    )
    single = to_dtype(graph, torch.float32)
    before = [layer.weight.clone() for layer in single.layers()]
    after = compact(single)
    assert {layer.weight.dtype for layer in after.layers()} == {torch.float32}
    assert all(torch.equal(a, b.weight) for a, b in zip(before, single.layers(), strict=True))


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5", "mobilenet", "preact_resnet", "densenet"])
def test_networks(name):
    network = NETWORKS[name]
    graph = capture(prune_(network.build(0), 0.99), torch.zeros(1, *network.shape))
    after = compact(graph)
    # Constants are rounded once more, to float32: to half an ulp of 2^-23 each, over a few layers.
    assert certify(graph, after).relative <= 1e-6
    double = to_dtype(graph, torch.float64)
    assert certify(double, compact(double)).relative <= 1e-12
    units = [layer.weight.shape[0] for layer in graph.layers()]
    left = [layer.weight.shape[0] for layer in after.layers()]
    assert sum(left) < sum(units)
    assert left[-1] == units[-1]
