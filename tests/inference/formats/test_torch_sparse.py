"""torch-sparse multiplies what we hand it as the dense matrix would, and hands back what we take."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference import from_csr, to_csr
from tests.inference.formats.common import MATRICES, random_weight, rounding

pytestmark = pytest.mark.torch_sparse

sizes = st.integers(1, 30)


@pytest.fixture(scope="module")
def torch_sparse() -> ModuleType:
    """Imported here, so that without it the rest of the tests can be collected."""
    return importlib.import_module("torch_sparse")


@pytest.mark.parametrize("dtype", MATRICES["torch_sparse"])
@given(
    rows=sizes,
    columns=sizes,
    batch=sizes,
    sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_its_products_equal_the_dense_ones(
    torch_sparse: ModuleType,
    dtype: torch.dtype,
    rows: int,
    columns: int,
    batch: int,
    sparsity: float,
    seed: int,
) -> None:
    weight = random_weight((rows, columns), sparsity, dtype, seed)
    x = random_weight((columns, batch), 0.0, dtype, seed + 1)
    matrix = to_csr(weight, backend="torch_sparse")
    assert isinstance(matrix, torch_sparse.SparseTensor)
    row_ids, column_ids, values = matrix.coo()
    exact = weight.double() @ x.double()
    bound = rounding(columns, weight.double().abs() @ x.double().abs(), dtype)
    for product in (
        matrix @ x,
        torch_sparse.matmul(matrix, x),
        torch_sparse.spmm(torch.stack((row_ids, column_ids)), values, rows, columns, x),
    ):
        assert product.dtype == dtype
        assert torch.all((product.double() - exact).abs() <= bound)


def test_what_it_says_of_the_matrix() -> None:
    matrix = to_csr(torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]]), backend="torch_sparse")
    assert matrix.sizes() == [2, 3]
    assert matrix.nnz() == 3
    assert matrix.to_dense().tolist() == [[0, 1, 0], [2, 0, 3]]
    assert matrix.t().to_dense().tolist() == [[0, 2], [1, 0], [0, 3]]


def test_unsorted_and_repeated_entries(torch_sparse: ModuleType) -> None:
    matrix = torch_sparse.SparseTensor(
        row=torch.tensor([1, 0, 0, 0]),
        col=torch.tensor([1, 2, 0, 2]),
        value=torch.tensor([8.0, 1.0, 2.0, 4.0]),
        sparse_sizes=(2, 3),
    )
    assert from_csr(matrix).tolist() == [[2.0, 0.0, 5.0], [0.0, 8.0, 0.0]]
    assert matrix.nnz() == 4, "the caller's matrix must stay as it is"


def test_foreign_matrices_without_one_number_an_entry(torch_sparse: ModuleType) -> None:
    index = torch.tensor([0, 1])
    plain = torch_sparse.SparseTensor(row=index, col=index, sparse_sizes=(2, 2))
    with pytest.raises(ValueError, match="one number for each entry, got one without values"):
        from_csr(plain)
    several = torch_sparse.SparseTensor(
        row=index, col=index, value=torch.ones(2, 3), sparse_sizes=(2, 2)
    )
    with pytest.raises(ValueError, match=r"got sizes \[2, 2, 3\]"):
        from_csr(several)


def test_values_that_require_gradients(torch_sparse: ModuleType) -> None:
    index = torch.tensor([0, 1])
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    matrix = torch_sparse.SparseTensor(row=index, col=index, value=values, sparse_sizes=(2, 2))
    assert not from_csr(matrix).requires_grad
