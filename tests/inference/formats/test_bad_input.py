"""What cannot be converted is refused, with the reason and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from inference import from_csr, to_csr
from inference.formats import CSRArrays, find_backend
from tests.inference.formats.common import MATRICES, each_backend

COLUMNS: dict[str, Callable[[Any], Any]] = {
    "native": lambda matrix: matrix.arrays.columns,
    "scipy": lambda matrix: matrix.indices,
    "torch": lambda matrix: matrix.col_indices(),
    "torch_sparse": lambda matrix: matrix.storage.col(),
}


@pytest.mark.parametrize("column", [-1, 3])
@each_backend
def test_malformed_matrices_are_refused(backend: str, column: int) -> None:
    matrix = to_csr(torch.eye(3), backend=backend)
    COLUMNS[backend](matrix)[1] = column
    with pytest.raises(ValueError, match=r"not a valid CSR matrix of shape \(3, 3\)"):
        from_csr(matrix)


@pytest.mark.parametrize(
    ("columns", "row_pointers"),
    [
        ([0, 3], [0, 1, 2]),
        ([-1, 0], [0, 1, 2]),
        ([0, 1], [0, 1, 3]),
        ([0, 1], [0, 3, 2]),
        ([1, 0], [0, 2, 2]),
    ],
)
def test_the_engine_packs_no_malformed_matrix(columns: list[int], row_pointers: list[int]) -> None:
    parts = (torch.tensor(part, dtype=torch.int32) for part in (columns, row_pointers))
    arrays = CSRArrays(torch.ones(2), *parts, (2, 3))
    with pytest.raises(ValueError, match=r"not a valid CSR matrix of shape \(2, 3\)"):
        find_backend("native").wrap(arrays)


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (6,), (2, 3, 2), (), (1, 2, 3)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"does not fit a matrix of \(2, 3\)"):
        from_csr(to_csr(torch.ones(2, 3)), shape=shape)


def test_unknown_backend_names_the_known_ones() -> None:
    known = ", ".join(MATRICES)
    with pytest.raises(ValueError, match=f"unknown backend 'cupy'; known: {known}"):
        to_csr(torch.eye(2), backend="cupy")


@each_backend
def test_dtypes_that_a_backend_lacks(backend: str) -> None:
    for dtype in MATRICES["torch"]:
        weight = torch.tensor([[0.0, 1.5], [-0.25, 0.0]], dtype=dtype)
        if dtype not in MATRICES[backend]:
            # The way that the message offers works.
            with pytest.raises(TypeError, match=rf"{dtype}: pass weight\.float\(\).*dtype={dtype}\)"):
                to_csr(weight, backend=backend)
            weight_back = from_csr(to_csr(weight.float(), backend=backend), dtype=dtype)
        else:
            weight_back = from_csr(to_csr(weight, backend=backend))
        assert weight_back.dtype == dtype
        assert torch.equal(weight_back, weight)


def test_bad_weights() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor, got ndarray"):
        to_csr(np.eye(2))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"at least 2 dimensions, got shape \(3,\)"):
        to_csr(torch.ones(3))
    with pytest.raises(TypeError, match=r"dtype torch\.int64"):
        to_csr(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"must be dense, got layout torch\.sparse_csr"):
        to_csr(to_csr(torch.eye(2), backend="torch"))


def test_bad_matrices() -> None:
    with pytest.raises(TypeError, match=r"expected a CSR matrix of .* or torch_sparse, got ndarray"):
        from_csr(np.eye(2))
    with pytest.raises(TypeError, match=r"got Tensor; .*\.to_sparse_csr\(\)"):
        from_csr(torch.eye(2))
    with pytest.raises(TypeError, match=r"got csc_array; .*\.tocsr\(\)"):
        from_csr(scipy.sparse.csc_array(np.eye(2)))


def test_batched_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got a batch of shape \(2, 3, 3\)"):
        from_csr(torch.stack([torch.eye(3)] * 2).to_sparse_csr())


def test_one_dimensional_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 dimensions, got shape \(3,\)"):
        from_csr(scipy.sparse.coo_array(np.ones(3)).tocsr())
