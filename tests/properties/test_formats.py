"""Export formats give weights back to the bit, and sparse modules are the dense function.

With every dtype, library and damaged input, the formats are tested in tests/inference/formats and
tests/inference/artifact.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dwf_optim.testing import assert_same_function, shapes, weights
from inference import SparseLinear, from_csr, load_state, save_state, to_csr

MATRICES = shapes(smallest_ndim=2, largest_ndim=2, largest_side=6)
FILTERS = shapes(smallest_ndim=3, largest_ndim=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples: each is written over the one before."""
    return tmp_path_factory.mktemp("formats") / "weights.dwf"


@pytest.mark.parametrize("backend", ["native", "scipy", "torch"])
@given(weight=weights(MATRICES | FILTERS))
def test_a_matrix_gives_the_weight_back(backend: str, weight: Tensor) -> None:
    """from_csr(to_csr(w)) = w, bit for bit: values are copied, and zeros are what is left out."""
    found = from_csr(to_csr(weight, backend=backend), shape=weight.shape)
    assert torch.equal(found, weight)
    assert found.dtype == weight.dtype


@given(
    written=st.dictionaries(
        st.text("ab.", min_size=1, max_size=3),
        st.sampled_from([torch.float32, torch.bfloat16, torch.float64]).flatmap(
            lambda dtype: weights(MATRICES | FILTERS, dtype)
        ),
        max_size=3,
    )
)
def test_a_file_gives_the_weights_back(file: Path, written: dict[str, Tensor]) -> None:
    """load_state(save_state(w)) = w, bit for bit, as CSR or dense, whichever is shorter."""
    save_state(file, written)
    found = load_state(file)
    assert found.keys() == written.keys()
    for name, weight in written.items():
        assert torch.equal(found[name], weight)
        assert found[name].dtype == weight.dtype


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
