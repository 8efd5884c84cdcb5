"""SciPy's ``csr_array``: float32 and float64, on the CPU."""

import importlib
import sys
from typing import Any

import torch
from torch import Tensor

from inference.formats.arrays import CSRArrays
from inference.formats.backend import Backend


def _wrap(arrays: CSRArrays) -> Any:
    if arrays.values.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"SciPy has no {arrays.values.dtype}: pass weight.float() and, on the way back, "
            f"from_csr(..., dtype={arrays.values.dtype})"
        )
    try:
        sparse = importlib.import_module("scipy.sparse")
    except ImportError as error:
        raise ImportError('backend "scipy" needs SciPy: pip install "dwf-optim[scipy]"') from error
    parts = (arrays.values, arrays.columns, arrays.row_pointers)
    return sparse.csr_array(tuple(part.cpu().numpy() for part in parts), shape=arrays.shape)


def _unwrap(matrix: Any) -> CSRArrays | None:
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


def _multiply(matrix: Any, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        raise ValueError(f'backend "scipy" computes on the CPU, the input is on {x.device}')
    return torch.from_numpy(matrix @ x.numpy())


BACKEND = Backend(_wrap, _unwrap, _multiply)
