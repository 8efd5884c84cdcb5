"""Calls of a native program: what it takes, what it refuses, and from how many threads."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from inference import _native
from tests.inference.native import linear

IN, OUT = 120, 33


@pytest.fixture
def weight():
    return linear.weights(OUT, IN, 0.9)


@pytest.fixture
def made(weight):
    return linear.program(weight)


def batch_of(size, seed=0):
    return np.random.default_rng(seed).standard_normal((size, IN), dtype=np.float32)


def test_torch_and_numpy_alike(made):
    x = batch_of(20)
    out, tensor_out = np.empty((20, OUT), np.float32), torch.empty(20, OUT)
    made.run([x], [out])
    made.run(torch.from_numpy(x), tensor_out)
    assert np.array_equal(out, tensor_out.numpy())
    made.run((torch.nn.Parameter(torch.from_numpy(x)),), (tensor_out,))
    assert np.array_equal(out, tensor_out.numpy())


def test_images_are_rows_of_features(made):
    x = batch_of(3)
    out = np.empty((3, OUT), np.float32)
    made.run(x.reshape(3, 2, 6, 10), out)
    assert np.array_equal(out, linear.call(made, x, OUT))


def test_empty_batch(made):
    made.run(batch_of(0), np.empty((0, OUT), np.float32))
    made.run(torch.empty(0, IN), torch.empty(0, OUT))


@pytest.mark.parametrize("batch", [1, 2, 64, 100])
@pytest.mark.parametrize("kernel", linear.KERNELS)
@pytest.mark.parametrize("instruction_set", linear.SETS)
def test_unaligned_arrays(weight, batch, kernel, instruction_set):
    made = linear.program(weight, None, kernel, "", instruction_set)
    x = batch_of(batch)
    shifted_x = np.empty(x.size + 1, np.float32)[1:].reshape(x.shape)
    shifted_x[:] = x
    out = np.full(batch * OUT + 3, 7, np.float32)
    made.run(shifted_x, out[1:-2].reshape(batch, OUT))
    assert np.array_equal(out[1:-2].reshape(batch, OUT), linear.call(made, x, OUT))
    assert out[0] == out[-2] == out[-1] == 7


@pytest.mark.parametrize("batch", [1, 65, 300])
@pytest.mark.parametrize("kernel", linear.KERNELS)
def test_threads_change_no_bit(weight, batch, kernel):
    made = linear.program(weight, None, kernel)
    x = batch_of(batch)
    one, two = (linear.call(made, x, OUT, threads) for threads in (1, 2))
    assert np.array_equal(one, two)


def test_eight_threads_on_one_program():
    layers = [(linear.weights(o, i, 0.9), None) for i, o in ((IN, 200), (200, 150), (150, OUT))]
    made = linear.chain(layers)
    batches = [batch_of(1 + 37 * k, seed=k) for k in range(8)]
    alone = [linear.call(made, x, OUT) for x in batches]

    def work(k):
        return [linear.call(made, batches[k], OUT, threads=1 + k % 2) for _ in range(40)]

    with ThreadPoolExecutor(8) as pool:
        for k, outs in enumerate(pool.map(work, range(8))):
            assert all(np.array_equal(out, alone[k]) for out in outs)


def test_kernels_own_layout(weight, made):
    x = batch_of(64)
    features = np.empty(IN * 64 + 16, np.float32)
    start = -features.ctypes.data // 4 % 16
    tile = features[start : start + IN * 64].reshape(1, IN, 64)
    tile[0] = x.T
    made_out = np.empty(OUT * 64 + 16, np.float32)
    start = -made_out.ctypes.data // 4 % 16
    out = made_out[start : start + OUT * 64].reshape(1, OUT, 64)
    made.run_tiles(tile, out)
    assert np.array_equal(out[0].T, linear.call(made, x, OUT))
    with pytest.raises(ValueError, match="aligned to 64 bytes"):
        made.run_tiles(tile.reshape(-1)[1 : 1 + IN * 16].reshape(1, IN, 16), out[:, :, :16].copy())
    with pytest.raises(ValueError, match="no tile has 5 lanes"):
        made.run_tiles(np.empty((1, IN, 5), np.float32), np.empty((1, OUT, 5), np.float32))


BAD_CALLS = [
    (np.zeros((4, IN - 1), np.float32), None, ValueError, "expected the batch and 120 elements"),
    (np.zeros(IN, np.float32), None, ValueError, r"shape \[120\]"),
    (np.float32(3), None, ValueError, "expected the batch"),
    (np.zeros((4, IN)), None, TypeError, "convert it to float32"),
    (np.zeros((4, IN), np.int32), None, TypeError, "convert it to float32"),
    (np.zeros((IN, 4), np.float32).T, None, ValueError, "not contiguous"),
    (np.zeros((4, IN), ">f4"), None, TypeError, "convert it to float32"),
    ([[0.0] * IN], None, TypeError, "type list"),
    (None, None, TypeError, "NoneType"),
    (torch.zeros(4, IN, dtype=torch.float64), None, TypeError, "not float32"),
    (torch.zeros(IN, 4).T, None, ValueError, "call contiguous"),
    (torch.zeros(4, IN, device="meta"), None, TypeError, "move it there"),
    (np.zeros((4, IN), np.float32), np.zeros((5, OUT), np.float32), ValueError, "batch of 5"),
    (np.zeros((4, IN), np.float32), np.zeros((4, OUT + 1), np.float32), ValueError, "33 elements"),
    ([np.zeros((4, IN), np.float32)] * 2, None, ValueError, "1 inputs and 1 outputs, not 2 and 1"),
]


@pytest.mark.parametrize(("x", "out", "error", "message"), BAD_CALLS)
def test_refuses(made, x, out, error, message):
    with pytest.raises(error, match=message):
        made.run(x, np.zeros((4, OUT), np.float32) if out is None else out)


def test_refuses_an_output_that_is_read_only(made):
    out = np.zeros((4, OUT), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        made.run(batch_of(4), out)


@pytest.mark.parametrize("size", [4 * IN, 4 * IN + 1])
def test_lets_go_of_buffers(made, size):
    """Calls, refused or not, leave no references and no locks on memory behind."""
    x = np.zeros(size, np.float32)[: 4 * IN].reshape(4, IN)
    memory = bytearray(4 * 4 * OUT)
    out = np.frombuffer(memory, np.float32).reshape(4, OUT)
    references = sys.getrefcount(x)
    for _ in range(10):
        made.run(x, out)
        with pytest.raises(ValueError, match="batch"):
            made.run(x[:3], out)
    assert sys.getrefcount(x) == references
    del out
    memory.extend(b"x")  # a BufferError if anything still held it


def test_refuses_no_threads(made):
    with pytest.raises(ValueError, match="threads is 0"):
        linear.call(made, batch_of(4), OUT, threads=0)


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="no instruction set"):
        _native.Builder("mmx")
