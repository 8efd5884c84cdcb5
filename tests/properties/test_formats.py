"""Sparse modules are the dense function.

That the formats themselves are exact on the way there and back are properties of their own: matrices in
tests/inference/formats/test_matrices.py, files in tests/inference/artifact/test_state.py.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dwf_optim.testing import assert_same_function, shapes, weights
from inference import SparseLinear

MATRICES = shapes(smallest_ndim=2, largest_ndim=2, largest_side=6)


@pytest.mark.parametrize("backend", ["native", "scipy", "torch"])
@given(weight=weights(MATRICES, extremes=False), data=st.data())
def test_csr_modules_are_the_dense_function(backend: str, weight: Tensor, data: st.DataObject) -> None:
    """W x + b, whichever library multiplies."""
    dense = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        dense.weight.copy_(weight)
        dense.bias.copy_(data.draw(weights((weight.shape[0],), extremes=False)))
    inputs = data.draw(weights((2, weight.shape[1]), extremes=False))
    assert_same_function(dense, SparseLinear.from_linear(dense, backend=backend), inputs)
