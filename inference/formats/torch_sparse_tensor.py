"""torch-sparse's ``SparseTensor``: all floating-point dtypes, on the weight's device."""

import importlib
import sys
from typing import Any

from torch import Tensor

from inference.formats.arrays import CSRArrays
from inference.formats.backend import Backend


def _wrap(arrays: CSRArrays) -> Any:
    try:
        torch_sparse = importlib.import_module("torch_sparse")
    # Compiled against another torch, its libraries do not load, which is an OSError or a RuntimeError.
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            'backend "torch_sparse" needs torch-sparse and torch-scatter, compiled against the '
            f'installed torch ({error}): pip install --no-build-isolation "dwf-optim[torch-sparse]"'
        ) from error
    return torch_sparse.SparseTensor(
        rowptr=arrays.row_pointers.long(),
        col=arrays.columns.long(),
        value=arrays.values,
        sparse_sizes=arrays.shape,
        is_sorted=True,
        trust_data=True,
    )


def _unwrap(matrix: Any) -> CSRArrays | None:
    # A matrix of a library that nobody has imported cannot exist.
    torch_sparse = sys.modules.get("torch_sparse")
    if torch_sparse is None or not isinstance(matrix, torch_sparse.SparseTensor):
        return None
    if not matrix.has_value() or matrix.dim() != 2:
        raise ValueError(
            "expected a SparseTensor with one number for each entry, got "
            + (f"sizes {matrix.sizes()}" if matrix.has_value() else "one without values")
        )
    if not matrix.is_coalesced():
        matrix = matrix.coalesce("sum")
    row_pointers, columns, values = matrix.csr()
    return CSRArrays(values.detach(), columns, row_pointers, matrix.sparse_sizes())


def _multiply(matrix: Any, x: Tensor) -> Tensor:
    # Its kernel divides by the number of x's elements, in integers: the process would die.
    if x.numel() == 0:
        return x.new_zeros(matrix.size(0), x.shape[1])
    product: Tensor = matrix @ x
    return product


BACKEND = Backend(_wrap, _unwrap, _multiply)
