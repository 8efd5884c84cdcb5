"""Sparse weights through modules and files; of matrices: tests/inference/formats/test_matrices.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import inference
from dwf_optim.testing import assert_same_function, shapes, weights

MATRICES = shapes(smallest_ndim=2, largest_ndim=2, largest_side=6)


def layer_of(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    return layer.eval()


@given(weight=weights(MATRICES, extremes=False), data=st.data())
def test_sparse_modules_and_artifacts_are_the_same_function(weight: Tensor, data: st.DataObject) -> None:
    """A dense layer, its CSR module, and the compiled model before and after it was a file: W x + b."""
    dense = layer_of(weight)
    inputs = data.draw(weights((2, weight.shape[1]), extremes=False))
    assert_same_function(dense, inference.SparseLinear.from_linear(dense, backend="scipy"), inputs)
    compiled = inference.compile(dense, inputs)
    assert_same_function(dense, compiled, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.dwf"
        compiled.save(path)
        loaded = inference.load(path)
    assert torch.equal(loaded(inputs), compiled(inputs))
    restored = loaded.to_dense()
    assert_same_function(dense, restored, inputs)
