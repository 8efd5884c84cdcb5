"""Two sparse layers through the native engine give what NumPy gives in float64."""

import numpy as np
import pytest
import scipy.sparse

from inference import _native


def build(instruction_set, weights, biases):
    builder = _native.Builder(instruction_set)
    value = builder.value((weights[0].shape[1], 1, 1, 0, 0))
    builder.input(value)
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        csr = scipy.sparse.csr_matrix(weight)
        output = builder.value((weight.shape[0], 1, 1, 0, 0))
        activation = "relu" if k + 1 < len(weights) else ""
        builder.sparse_linear(value, output, csr.indptr, csr.indices, csr.data, bias, activation)
        value = output
    return builder.build([value])


@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
@pytest.mark.parametrize("batch", [1, 2, 16, 17, 65, 257])
def test_two_layers(instruction_set, batch):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, dtype=np.float32) for shape in ((30, 78), (10, 30))]
    for weight in weights:
        weight[rng.random(weight.shape) < 0.8] = 0
    biases = [rng.standard_normal(len(weight), dtype=np.float32) for weight in weights]
    x = rng.standard_normal((batch, 78), dtype=np.float32)
    out = np.empty((batch, 10), dtype=np.float32)
    build(instruction_set, weights, biases).run([x], [out])
    hidden = np.maximum(x @ weights[0].T.astype(np.float64) + biases[0], 0)
    expected = hidden @ weights[1].T.astype(np.float64) + biases[1]
    assert np.linalg.norm(out - expected) <= 1e-5 * np.linalg.norm(expected)
