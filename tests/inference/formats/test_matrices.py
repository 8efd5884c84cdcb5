"""Dense -> CSR -> dense, by every backend, bit for bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import inference
from inference import from_csr, to_csr
from inference.formats import BACKENDS, Backend, CSRArrays, find_backend
from tests.inference.formats.common import (
    bits,
    each_backend,
    each_matrix,
    size,
    weights,
    without_negative_zero,
)


@each_matrix
@given(data=st.data())
def test_round_trip_is_exact(backend: str, dtype: torch.dtype, data: st.DataObject) -> None:
    weight = data.draw(weights(dtype))
    matrix = to_csr(weight, backend=backend)
    restored = from_csr(matrix, shape=weight.shape)
    assert restored.dtype == dtype
    assert restored.shape == weight.shape
    assert bits(restored) == bits(without_negative_zero(weight))
    assert size(matrix) == weight.flatten(1).shape


@given(data=st.data())
def test_scipy_matrix_equals_scipys_own(data: st.DataObject) -> None:
    weight = data.draw(weights(torch.float64)).flatten(1)
    ours, theirs = to_csr(weight), scipy.sparse.csr_array(weight.numpy())
    assert ours.dtype == theirs.dtype
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


@given(data=st.data())
def test_torch_matrix_equals_torchs_own(data: st.DataObject) -> None:
    weight = data.draw(weights(torch.float32)).flatten(1)
    ours, theirs = to_csr(weight, backend="torch"), weight.to_sparse_csr()
    assert ours.layout == torch.sparse_csr
    assert bits(ours.values()) == bits(theirs.values())
    assert ours.col_indices().tolist() == theirs.col_indices().tolist()
    assert ours.crow_indices().tolist() == theirs.crow_indices().tolist()
    assert ours.col_indices().dtype == ours.crow_indices().dtype == torch.int32


@each_backend
def test_parameters_are_detached_and_not_aliased(backend: str) -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    matrix = to_csr(layer.weight, backend=backend)
    restored = from_csr(matrix)
    assert not restored.requires_grad
    with torch.no_grad():
        layer.weight.add_(1)
    restored.add_(1)
    assert torch.equal(from_csr(matrix), before)


@each_backend
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_both_index_dtypes(backend: str, index: torch.dtype) -> None:
    weight = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    arrays = CSRArrays.from_dense(weight)
    arrays = CSRArrays(
        arrays.values, arrays.columns.to(index), arrays.row_pointers.to(index), arrays.shape
    )
    matrix = find_backend(backend).wrap(arrays)
    assert torch.equal(from_csr(matrix), weight)
    product = find_backend(backend).multiply(matrix, torch.tensor([[1.0], [10.0], [100.0]]))
    assert product.tolist() == [[10.0], [302.0]]


def test_foreign_matrices_with_unsorted_and_repeated_entries() -> None:
    matrix = scipy.sparse.csr_matrix(
        (np.array([1.0, 2.0, 4.0, 8.0]), np.array([2, 0, 2, 1]), np.array([0, 3, 4])), shape=(2, 3)
    )
    assert from_csr(matrix).tolist() == [[2.0, 0.0, 5.0], [0.0, 8.0, 0.0]]
    assert matrix.nnz == 4, "the caller's matrix must stay as it is"


def test_read_only_scipy_arrays() -> None:
    matrix = to_csr(torch.eye(2))
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    assert torch.equal(from_csr(matrix), torch.eye(2))


def test_a_new_backend_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Backend(
        wrap=lambda arrays: ("mine", arrays),
        unwrap=lambda matrix: matrix[1] if isinstance(matrix, tuple) else None,
    )
    monkeypatch.setitem(BACKENDS, "mine", entry)
    matrix = to_csr(torch.eye(2), backend="mine")
    assert matrix[0] == "mine"
    assert torch.equal(from_csr(matrix), torch.eye(2))


def test_only_the_beta_notice_is_hidden() -> None:
    # In a process of its own, for torch gives the notice once a process.
    code = (
        "import warnings, torch, inference\n"
        "warnings.simplefilter('error')\n"
        "filters = list(warnings.filters)\n"
        "matrix = inference.to_csr(torch.eye(2), backend='torch')\n"
        "inference.from_csr(matrix)\n"
        "assert warnings.filters == filters\n"
    )
    root = Path(inference.__file__).parents[1]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_exports_exist() -> None:
    assert all(hasattr(inference, name) for name in inference.__all__)
