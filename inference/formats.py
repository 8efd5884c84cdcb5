"""Dense weights to compressed sparse rows (CSR) and back, for every library that has a CSR type.

All conversions meet in `CSRArrays`, the three plain arrays that every library wraps, so a new
backend is a pair of functions (wrap, unwrap) and one line in ``BACKENDS``.
"""

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class CSRArrays:
    """The arrays of one CSR matrix, as plain tensors that copy, pickle and share like any other.

    Attributes:
        values: the non-zero entries row by row, shape ``[nnz]``.
        columns: their column ids, rising within a row, shape ``[nnz]``, int32 or int64.
        row_pointers: where each row starts in ``values``, shape ``[rows + 1]``, as ``columns``.
        shape: ``(rows, columns)`` of the matrix.
    """

    values: Tensor
    columns: Tensor
    row_pointers: Tensor
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of values, column ids and row pointers together."""
        return self.values.nbytes + self.columns.nbytes + self.row_pointers.nbytes

    @classmethod
    def from_dense(cls, weight: Tensor) -> "CSRArrays":
        """Collects the non-zero entries of a dense weight.

        Args:
            weight: floating-point tensor or parameter, ``[out, in]`` or ``[out, ...]``; more than
                two dimensions are flattened to ``[out, rest]``.

        Returns:
            New arrays on the weight's device, detached from autograd. NaN and inf count as
            non-zero, -0.0 as zero.

        Raises:
            TypeError: if ``weight`` is not a dense tensor of a floating-point dtype.
            ValueError: if it has fewer than 2 dimensions.
        """
        if not isinstance(weight, Tensor):
            raise TypeError(
                f"weight must be a torch.Tensor, got {type(weight).__name__}; "
                "for a module pass its weight, as in to_csr(module.weight)"
            )
        if weight.layout != torch.strided:
            raise TypeError(f"weight must be dense, got layout {weight.layout}; pass weight.to_dense()")
        if weight.dtype not in FLOAT_DTYPES:
            raise TypeError(
                f"weight has dtype {weight.dtype}; CSR weights are one of "
                + ", ".join(str(dtype) for dtype in FLOAT_DTYPES)
            )
        if weight.dim() < 2:
            raise ValueError(
                f"weight must have at least 2 dimensions, got shape {tuple(weight.shape)}; "
                "biases and scales stay dense"
            )
        matrix = weight.detach().flatten(1)
        rows, columns = matrix.shape
        nonzero = matrix != 0
        row_ids, column_ids = nonzero.nonzero(as_tuple=True)
        # int32 halves the index bytes, and the MKL that torch links takes no other index type.
        limit = torch.iinfo(torch.int32).max
        index = torch.int32 if max(columns, len(row_ids)) <= limit else torch.int64
        row_pointers = torch.zeros(rows + 1, dtype=index, device=matrix.device)
        row_pointers[1:] = nonzero.sum(1).cumsum(0)
        values = matrix[row_ids, column_ids]
        return cls(values, column_ids.to(index), row_pointers, (rows, columns))

    def to_dense(self) -> Tensor:
        """Writes the entries into a new dense tensor.

        Returns:
            Tensor ``[rows, columns]`` of the dtype and device of ``values``.

        Raises:
            ValueError: if the arrays do not describe a CSR matrix of this shape.
        """
        try:
            _wrap_torch(self)  # Checks what indexing would not: a negative id would wrap around.
        except RuntimeError as error:
            raise ValueError(f"not a valid CSR matrix of shape {self.shape}: {error}") from error
        # Indexing copies bits; torch's own to_dense adds to zero, which alters signalling NaNs.
        dense = self.values.new_zeros(self.shape)
        counts = self.row_pointers.diff().long()
        rows = torch.arange(self.shape[0], device=dense.device).repeat_interleave(counts)
        dense[rows, self.columns.long()] = self.values
        return dense


class Backend(NamedTuple):
    """How one library wraps CSR arrays in its own type, and how they come out again."""

    wrap: Callable[[CSRArrays], Any]
    unwrap: Callable[[Any], CSRArrays | None]
    """Returns None for an object that is not this library's."""


@contextmanager
def _without_beta_warning() -> Iterator[None]:
    """Hides torch's notice, once a process, that CSR tensors are in beta state."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning
        )
        yield


def _wrap_torch(arrays: CSRArrays) -> Tensor:
    with _without_beta_warning():
        return torch.sparse_csr_tensor(
            arrays.row_pointers,
            arrays.columns,
            arrays.values,
            arrays.shape,
            check_invariants=True,
        )


def _unwrap_torch(matrix: Any) -> CSRArrays | None:
    if not isinstance(matrix, Tensor) or matrix.layout != torch.sparse_csr:
        return None
    if matrix.dim() != 2:
        raise ValueError(f"expected one CSR matrix, got a batch of shape {tuple(matrix.shape)}")
    matrix = matrix.detach()
    rows, columns = matrix.shape
    return CSRArrays(matrix.values(), matrix.col_indices(), matrix.crow_indices(), (rows, columns))


def _wrap_scipy(arrays: CSRArrays) -> Any:
    if arrays.values.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"SciPy has no {arrays.values.dtype}: pass weight.float() and, on the way back, "
            f"from_csr(..., dtype={arrays.values.dtype})"
        )
    try:
        sparse = importlib.import_module("scipy.sparse")
    except ImportError as error:
        raise ImportError('backend "scipy" needs SciPy: pip install dwf-optim[scipy]') from error
    parts = (arrays.values, arrays.columns, arrays.row_pointers)
    return sparse.csr_array(tuple(part.cpu().numpy() for part in parts), shape=arrays.shape)


def _unwrap_scipy(matrix: Any) -> CSRArrays | None:
    # A matrix of a library that nobody has imported cannot exist.
    sparse = sys.modules.get("scipy.sparse")
    if sparse is None or not sparse.issparse(matrix) or matrix.format != "csr":
        return None
    if matrix.ndim != 2:
        raise ValueError(f"expected a CSR matrix of 2 dimensions, got shape {matrix.shape}")
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    # Copies: torch.from_numpy would warn of arrays that are read-only.
    values, columns, row_pointers = (
        torch.tensor(part) for part in (matrix.data, matrix.indices, matrix.indptr)
    )
    return CSRArrays(values, columns, row_pointers, matrix.shape)


BACKENDS: dict[str, Backend] = {
    "scipy": Backend(_wrap_scipy, _unwrap_scipy),
    "torch": Backend(_wrap_torch, _unwrap_torch),
}


def find_backend(name: str) -> Backend:
    """Looks a CSR backend up by name.

    Args:
        name: a key of ``BACKENDS``.

    Returns:
        The backend's pair of functions.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name]


def to_csr(weight: Tensor, backend: str = "scipy") -> Any:
    """Converts a dense weight with exact zeros to a CSR matrix.

    Args:
        weight: floating-point tensor or parameter, ``[out, in]`` or ``[out, ...]``; more than two
            dimensions (convolutions) are flattened to ``[out, rest]``.
        backend: "scipy" for a ``scipy.sparse.csr_array`` (float32 and float64, on the CPU) or
            "torch" for a sparse CSR tensor on the weight's device.

    Returns:
        The matrix, with the dtype of ``weight`` and memory of its own. NaN and inf are kept.

    Raises:
        ImportError: if the backend's library is not installed.
        TypeError: if ``weight`` is not a dense floating-point tensor, or of a dtype that the
            backend does not know.
        ValueError: if ``weight`` has fewer than 2 dimensions or ``backend`` is unknown.
    """
    wrap = find_backend(backend).wrap
    return wrap(CSRArrays.from_dense(weight))


def from_csr(
    matrix: Any, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Converts a CSR matrix of any backend back to a dense tensor.

    Undoes `to_csr` bit for bit, but that -0.0 comes back as +0.0.

    Args:
        matrix: ``scipy.sparse`` CSR array or matrix, or torch sparse CSR tensor, ``[out, rest]``.
        shape: shape of the result, as that of a convolution's weight; by default that of
            ``matrix``.
        dtype: dtype of the result; that of ``matrix`` by default.

    Returns:
        A new dense tensor, on the matrix's device.

    Raises:
        TypeError: if ``matrix`` is not a CSR matrix of a known backend.
        ValueError: if ``matrix`` is malformed, or ``shape`` does not fit it.
    """
    candidates = (backend.unwrap(matrix) for backend in BACKENDS.values())
    arrays = next((found for found in candidates if found is not None), None)
    if arrays is None:
        raise TypeError(
            f"expected a CSR matrix of {' or '.join(sorted(BACKENDS))}, got "
            f"{type(matrix).__name__}; other sparse formats convert with .tocsr() or "
            ".to_sparse_csr()"
        )
    shape = arrays.shape if shape is None else tuple(shape)
    if shape[:1] != arrays.shape[:1] or math.prod(shape[1:]) != arrays.shape[1]:
        raise ValueError(
            f"shape {shape} does not fit a matrix of {arrays.shape}: the first dimension must be "
            "the number of rows, the product of the others the number of columns"
        )
    return arrays.to_dense().reshape(shape).to(dtype)
