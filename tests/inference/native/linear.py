"""Layers for the tests of the linear kernels, and what they compute in float64."""

import numpy as np
import torch

from inference import _native, native  # noqa: F401 (native knows of tensors)

SETS = _native.instruction_sets()
KERNELS = ("sparse", "dense")
# By the norm and relative: a sum of n terms loses at most n times 6e-8, usually sqrt(n) times.
TOLERANCE = 1e-5

ACTIVATIONS = {
    "": lambda y: y,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "leaky_relu": lambda y: torch.nn.functional.leaky_relu(y, 0.1),
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def weights(rows, columns, zeros, seed=0):
    """Normal weights, a share of them zero."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns), dtype=np.float32)
    weight[rng.random(weight.shape) < zeros] = 0
    return weight


def add_layer(builder, value, weight, bias, kernel="sparse", activation=""):
    """Add one layer behind a value; return the value that it makes."""
    output = builder.value((len(weight), 1, 1, 0, 0))
    rest = (bias, activation, 0.1)
    if kernel == "dense":
        builder.dense_linear(value, output, weight, *rest)
    else:
        where = weight != 0
        begins = np.zeros(len(weight) + 1, np.int32)
        begins[1:] = np.cumsum(where.sum(1))
        columns = np.nonzero(where)[1].astype(np.int32)
        builder.sparse_linear(value, output, begins, columns, weight[where], *rest)
    return output


def program(weight, bias=None, kernel="sparse", activation="", instruction_set="", widest=64):
    """One layer as a program."""
    builder = _native.Builder(instruction_set, widest)
    value = builder.value((weight.shape[1], 1, 1, 0, 0))
    builder.input(value)
    return builder.build([add_layer(builder, value, weight, bias, kernel, activation)])


def chain(layers, kernel="sparse", instruction_set=""):
    """Layers with ReLU between them as a program; each is a weight and a bias."""
    builder = _native.Builder(instruction_set)
    value = builder.value((layers[0][0].shape[1], 1, 1, 0, 0))
    builder.input(value)
    for k, (weight, bias) in enumerate(layers):
        activation = "relu" if k + 1 < len(layers) else ""
        value = add_layer(builder, value, weight, bias, kernel, activation)
    return builder.build([value])


def call(made, x, rows, threads=1):
    """Run a program on a batch; the output starts as NaN, so that what is not written shows."""
    out = np.full((len(x), rows), np.nan, np.float32)
    made.run(x, out, threads)
    return out


def expected(weight, bias, x, activation=""):
    """Compute a layer in float64 by torch."""
    wide = torch.from_numpy(x).double() @ torch.from_numpy(weight).double().T
    if bias is not None:
        wide = wide + torch.from_numpy(bias).double()
    return ACTIVATIONS[activation](wide).numpy()


def close(out, wide):
    """Say whether the output is as near as float32 allows, by the norm."""
    return np.linalg.norm(out - wide) <= TOLERANCE * np.linalg.norm(wide) + 1e-30
