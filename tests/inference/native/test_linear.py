"""Linear kernels of every instruction set against float64."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.native import linear

BATCHES = (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 128, 257)
# Rows and columns: less than a register or a window of inputs, one more than whole ones, and panels.
SHAPES = ((1, 1), (3, 5), (17, 30), (16, 31), (33, 32), (10, 100), (300, 784), (97, 513), (1100, 140))
every_set = pytest.mark.parametrize("instruction_set", linear.SETS)
every_kernel = pytest.mark.parametrize("kernel", linear.KERNELS)


def check(weight, bias, batch, kernel, instruction_set, activation="", widest=64):
    x = np.random.default_rng(1).standard_normal((batch, weight.shape[1]), dtype=np.float32)
    made = linear.program(weight, bias, kernel, activation, instruction_set, widest)
    out = linear.call(made, x, len(weight))
    assert linear.close(out, linear.expected(weight, bias, x, activation))


@every_set
@every_kernel
@pytest.mark.parametrize("batch", BATCHES)
def test_batches(instruction_set, kernel, batch):
    weight = linear.weights(70, 150, 0.8)
    check(weight, weight[:, 0].copy(), batch, kernel, instruction_set)


@every_set
@every_kernel
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_shapes_and_zeros(instruction_set, kernel, shape, zeros):
    weight = linear.weights(*shape, zeros)
    bias = np.random.default_rng(2).standard_normal(len(weight), dtype=np.float32)
    for batch in (1, 5, 64):
        check(weight, bias, batch, kernel, instruction_set)


@every_set
@pytest.mark.parametrize("zeros", [0.8, 0.97])
def test_many_rows_and_columns(instruction_set, zeros):
    """More than one block of rows, and many panels."""
    weight = linear.weights(2100, 1500, zeros)
    for batch in (1, 20):
        check(weight, None, batch, "sparse", instruction_set)


@every_set
@pytest.mark.parametrize("widest", [16, 32, 64])
@pytest.mark.parametrize("rows", [512, 513, 1100])
def test_rows_in_blocks_of_one_panel(instruction_set, widest, rows):
    """Few terms, so one panel; more rows than a block has, and whole and partly filled tiles."""
    weight = linear.weights(rows, 300, 0.99)
    bias = np.random.default_rng(2).standard_normal(rows, dtype=np.float32)
    for activation in ("", "relu", "gelu"):
        for batch in (64, 77):
            check(weight, bias, batch, "sparse", instruction_set, activation, widest)


@every_set
@pytest.mark.parametrize("features", [31, 32, 33, 64, 80, 96, 1024])
@pytest.mark.parametrize("offset", [0, 1, 4, 12])
def test_wherever_rows_of_samples_begin(instruction_set, features, offset):
    """Rows of whole cache lines begin in the middle of one, in and out; nothing around is written."""
    weight = np.diag(np.arange(1, features + 1, dtype=np.float32))
    made = linear.program(weight, instruction_set=instruction_set)
    for batch in (5, 64, 100):
        x = np.empty(batch * features + offset, np.float32)[offset:].reshape(batch, features)
        x[:] = np.arange(x.size, dtype=np.float32).reshape(x.shape) % 97
        room = np.full(x.size + offset + 32, np.nan, np.float32)
        out = room[offset : offset + x.size].reshape(x.shape)
        made.run(x, out)
        np.testing.assert_array_equal(out, x * weight.diagonal())
        assert np.isnan(room[:offset]).all()
        assert np.isnan(room[offset + x.size :]).all()


@every_set
@pytest.mark.parametrize("columns", [6, 7, 8, 30, 31, 32])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.8])
def test_one_sample_of_as_many_inputs_as_a_window(instruction_set, columns, zeros):
    check(linear.weights(45, columns, zeros), None, 1, "sparse", instruction_set)


@every_set
def test_an_output_that_the_next_layer_reads(instruction_set):
    """It is needed both as rows of samples and by lanes."""
    first, second = linear.weights(700, 100, 0.97), linear.weights(600, 700, 0.97)
    builder = linear._native.Builder(instruction_set)
    x = builder.value((100, 1, 1, 0, 0))
    builder.input(x)
    middle = linear.add_layer(builder, x, first, None)
    last = linear.add_layer(builder, middle, second, None)
    made = builder.build([last, middle])
    given = np.random.default_rng(0).standard_normal((100, 100), dtype=np.float32)
    outs = [np.full((100, rows), np.nan, np.float32) for rows in (600, 700)]
    made.run([given], outs)
    wide = linear.expected(first, None, given)
    assert linear.close(outs[1], wide)
    assert linear.close(outs[0], wide @ second.T)


@every_set
@every_kernel
@pytest.mark.parametrize("widest", [1, 16, 32, 64])
def test_tiles_of_each_width(instruction_set, kernel, widest):
    check(linear.weights(40, 300, 0.85), None, 37, kernel, instruction_set, widest=widest)


@every_set
@every_kernel
def test_empty_rows_and_columns(instruction_set, kernel):
    weight = linear.weights(50, 200, 0.7)
    weight[::3] = 0
    weight[:, 20:150] = 0
    bias = np.arange(50, dtype=np.float32)
    for batch in (1, 64):
        check(weight, bias, batch, kernel, instruction_set)


@every_set
def test_rows_of_very_different_lengths(instruction_set):
    weight = linear.weights(64, 500, 0.99)
    weight[5] = 1
    weight[40, :250] = -1
    for batch in (1, 16, 64):
        check(weight, None, batch, "sparse", instruction_set)


@every_set
@every_kernel
@pytest.mark.parametrize("activation", linear.ACTIVATIONS)
def test_activations(instruction_set, kernel, activation):
    weight = linear.weights(45, 90, 0.8)
    for batch in (1, 3, 64):
        check(weight, weight[:, 1].copy(), batch, kernel, instruction_set, activation)


@every_set
@pytest.mark.parametrize("activation", linear.ACTIVATIONS)
def test_activations_number_by_number(instruction_set, activation):
    """Each output by itself, over the whole range, within 2e-6 of its size.

    The layer is the identity, so nothing else is rounded. The argument of an exponential is rounded to
    6e-8 of its size, which is then the error of the result: at most 30 times that.
    """
    x = np.linspace(-30, 30, 64 * 400, dtype=np.float32).reshape(-1, 4)
    identity = np.eye(4, dtype=np.float32)
    made = linear.program(identity, None, "sparse", activation, instruction_set)
    wide = linear.expected(identity, None, x, activation)
    np.testing.assert_allclose(linear.call(made, x, 4), wide, rtol=2e-6, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 80),
    columns=st.integers(1, 300),
    batch=st.integers(1, 130),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    kernel=st.sampled_from(linear.KERNELS),
    instruction_set=st.sampled_from(linear.SETS),
)
def test_any_layer(rows, columns, batch, zeros, seed, kernel, instruction_set):
    weight = linear.weights(rows, columns, zeros, seed)
    check(weight, weight[:, 0].copy(), batch, kernel, instruction_set)


@every_set
@every_kernel
def test_chain(instruction_set, kernel):
    sizes = (784, 300, 100, 10)
    layers = [
        (linear.weights(o, i, 0.95, seed=o), linear.weights(1, o, 0.0, seed=i)[0])
        for i, o in itertools.pairwise(sizes)
    ]
    made = linear.chain(layers, kernel, instruction_set)
    for batch in (1, 64, 100):
        x = np.random.default_rng(3).standard_normal((batch, 784), dtype=np.float32)
        wide = torch.from_numpy(x).double()
        for k, (weight, bias) in enumerate(layers):
            wide = wide @ torch.from_numpy(weight).double().T + torch.from_numpy(bias)
            wide = wide.relu() if k < 2 else wide
        assert linear.close(linear.call(made, x, 10), wide.numpy())
