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
from hypothesis.extra import numpy as hnp
from torch import nn

import inference
from inference import from_csr, to_csr
from inference.formats import BACKENDS, Backend

INTEGER = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
# Every dtype that each backend is documented to take.
CASES = [("scipy", torch.float32), ("scipy", torch.float64)] + [("torch", d) for d in INTEGER]
# -0.0, inf, quiet and signalling NaNs with a payload, and the smallest subnormal, as bits.
SPECIAL_BITS = {
    torch.float16: (0x8000, 0x7C00, 0xFC00, 0x7E01, 0x7C01, 1),
    torch.bfloat16: (0x8000, 0x7F80, 0xFF80, 0x7FC1, 0x7F81, 1),
    torch.float32: (0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 1),
    torch.float64: (
        0x8000000000000000,
        0x7FF0000000000000,
        0xFFF0000000000000,
        0x7FF8000000000001,
        0x7FF0000000000001,
        1,
    ),
}


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.detach().contiguous().view(INTEGER[tensor.dtype]).flatten().tolist()


def without_negative_zero(tensor: torch.Tensor) -> torch.Tensor:
    return torch.where(tensor == 0, torch.zeros((), dtype=tensor.dtype), tensor)


@st.composite
def weights(draw: st.DrawFn, dtype: torch.dtype) -> torch.Tensor:
    """Any bit patterns in any shape, from all zero over sparse to all dense."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=5))
    width = 8 * dtype.itemsize
    anything = st.integers(0, 2**width - 1)
    elements = draw(
        st.sampled_from(
            [
                st.just(0),
                st.one_of(st.just(0), st.sampled_from(SPECIAL_BITS[dtype]), anything),
                anything.filter(lambda value: value % 2 ** (width - 1) != 0),
            ]
        )
    )
    drawn = draw(hnp.arrays(np.dtype(f"uint{width}"), shape, elements=elements, fill=st.nothing()))
    return torch.from_numpy(drawn.view(np.dtype(f"int{width}"))).view(dtype)


@pytest.mark.parametrize(("backend", "dtype"), CASES)
@given(data=st.data())
def test_round_trip_is_exact(backend: str, dtype: torch.dtype, data: st.DataObject) -> None:
    weight = data.draw(weights(dtype))
    matrix = to_csr(weight, backend=backend)
    restored = from_csr(matrix, shape=weight.shape)
    assert restored.dtype == dtype
    assert restored.shape == weight.shape
    assert bits(restored) == bits(without_negative_zero(weight))
    assert tuple(matrix.shape) == tuple(weight.flatten(1).shape)


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


@pytest.mark.parametrize("backend", ["scipy", "torch"])
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


@pytest.mark.parametrize("backend", ["scipy", "torch"])
def test_non_contiguous_weights(backend: str) -> None:
    weight = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]]).t()
    assert torch.equal(from_csr(to_csr(weight, backend=backend)), weight)


def test_bfloat16_goes_through_scipy_as_float32() -> None:
    weight = torch.tensor([[0.0, 1.5], [-0.1, 0.0]], dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"SciPy has no torch\.bfloat16.*weight\.float\(\)"):
        to_csr(weight)
    restored = from_csr(to_csr(weight.float()), dtype=torch.bfloat16)
    assert restored.dtype == torch.bfloat16
    assert bits(restored) == bits(weight)


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


@pytest.mark.parametrize("column", [-1, 3])
@pytest.mark.parametrize("backend", ["scipy", "torch"])
def test_malformed_matrices_are_refused(backend: str, column: int) -> None:
    matrix = to_csr(torch.eye(3), backend=backend)
    (matrix.indices if backend == "scipy" else matrix.col_indices())[1] = column
    with pytest.raises(ValueError, match=r"not a valid CSR matrix of shape \(3, 3\)"):
        from_csr(matrix)


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (6,), (2, 3, 2), (), (1, 2, 3)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"does not fit a matrix of \(2, 3\)"):
        from_csr(to_csr(torch.ones(2, 3)), shape=shape)


def test_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'cupy'; known: scipy, torch"):
        to_csr(torch.eye(2), backend="cupy")


def test_bad_weights() -> None:
    with pytest.raises(TypeError, match=r"got Linear; .*to_csr\(module\.weight\)"):
        to_csr(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at least 2 dimensions, got shape \(3,\)"):
        to_csr(torch.ones(3))
    with pytest.raises(TypeError, match=r"dtype torch\.int64"):
        to_csr(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"must be dense, got layout torch\.sparse_csr"):
        to_csr(to_csr(torch.eye(2), backend="torch"))


def test_bad_matrices() -> None:
    with pytest.raises(TypeError, match="expected a CSR matrix of scipy or torch, got ndarray"):
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


def test_missing_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match=r"pip install dwf-optim\[scipy\]"):
        to_csr(torch.eye(2))
    assert torch.equal(from_csr(to_csr(torch.eye(2), backend="torch")), torch.eye(2))


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
