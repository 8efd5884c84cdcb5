"""What the builder of native programs refuses: nothing wrong gets to the kernels."""

import numpy as np
import pytest

from inference import _native

BEGINS = np.array([0, 1, 3], np.int32)
COLUMNS = np.array([2, 0, 1], np.int32)
WEIGHTS = np.array([1, 2, 3], np.float32)


@pytest.fixture
def builder():
    made = _native.Builder()
    made.input(made.value((3, 1, 1, 0, 0)))
    made.value((2, 1, 1, 0, 0))
    return made


def ints(*numbers):
    return np.array(numbers, np.int32)


@pytest.mark.parametrize(
    ("begins", "columns", "weights", "message"),
    [
        (ints(0, 1), COLUMNS, WEIGHTS, "3 row pointers, not 2"),
        (ints(0, 1, 2), COLUMNS, WEIGHTS, "from 0 to the number of weights, 3"),
        (ints(1, 1, 3), COLUMNS, WEIGHTS, "from 0"),
        (ints(0, 4, 3), COLUMNS, WEIGHTS, "fall after row 1"),
        (ints(0, -1, 3), COLUMNS, WEIGHTS, "fall after row 0"),
        (BEGINS, ints(2, 0, 3), WEIGHTS, "column 3 of 3"),
        (BEGINS, ints(-1, 0, 1), WEIGHTS, "column -1"),
        (BEGINS, ints(2, 1, 0), WEIGHTS, "do not rise in row 1"),
        (BEGINS, ints(2, 1, 1), WEIGHTS, "do not rise in row 1"),
        (BEGINS, COLUMNS, WEIGHTS[:2], "each weight needs one column"),
    ],
)
def test_refuses_matrices(builder, begins, columns, weights, message):
    with pytest.raises(ValueError, match=message):
        builder.sparse_linear(0, 1, begins, columns, weights)


def test_refuses_other_types(builder):
    with pytest.raises(TypeError):
        builder.sparse_linear(0, 1, BEGINS, COLUMNS, WEIGHTS.astype(np.float64))
    with pytest.raises(TypeError):
        builder.sparse_linear(0, 1, BEGINS.astype(np.int64), COLUMNS, WEIGHTS)


def test_refuses_sizes(builder):
    with pytest.raises(ValueError, match=r"\[3, 2\], expected \[2, 3\]"):
        builder.dense_linear(0, 1, np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="bias has 3 elements, expected 2"):
        builder.dense_linear(0, 1, np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="cannot be that large"):
        builder.value((2**40, 2**40, 1, 0, 0))
    with pytest.raises(ValueError, match="cannot be that wide"):
        builder.value((1, 1, 1, 2**60, 0))


def test_refuses_graphs(builder):
    with pytest.raises(ValueError, match="there is no value 7"):
        builder.sparse_linear(0, 7, BEGINS, COLUMNS, WEIGHTS)
    with pytest.raises(ValueError, match="reads value 1, which none before it makes"):
        builder.sparse_linear(1, 0, ints(0, 0, 0, 0), ints(), WEIGHTS[:0])
    with pytest.raises(ValueError, match="no op makes output 1"):
        builder.build([1])
    with pytest.raises(ValueError, match="output 0 is an input"):
        builder.build([0])
    builder.sparse_linear(0, 1, BEGINS, COLUMNS, WEIGHTS)
    with pytest.raises(ValueError, match="value 1 is already there"):
        builder.sparse_linear(0, 1, BEGINS, COLUMNS, WEIGHTS)
    with pytest.raises(ValueError, match="stands twice"):
        builder.build([1, 1])
    builder.build([1])
    with pytest.raises(ValueError, match="already built"):
        builder.build([1])


def test_refuses_functions(builder):
    with pytest.raises(ValueError, match='unknown activation "swish"'):
        builder.sparse_linear(0, 1, BEGINS, COLUMNS, WEIGHTS, None, "swish")
    with pytest.raises(ValueError, match="no tile has 48 lanes"):
        _native.Builder("", 48)
