"""A matrix packed for the engine's sparse kernel: float32, on the CPU."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference import native
from inference.formats.arrays import CSRArrays
from inference.formats.backend import Backend
from inference.lowering.context import MOST_LANES, layout


@dataclass(frozen=True, eq=False)
class EngineMatrix:
    """A CSR matrix as the compiled extension computes with it.

    Attributes:
        arrays: What was packed.
        program: The product with it, for rows of samples; None where the matrix has no rows or columns.
    """

    arrays: CSRArrays
    program: Any

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.arrays.shape


def _wrap(arrays: CSRArrays) -> EngineMatrix:
    if not native.is_built():
        raise ImportError(
            'backend "native" needs the compiled extension: reinstall dwf-optim where there is a C++ '
            "compiler"
        )
    if arrays.values.dtype != torch.float32:
        raise TypeError(
            f"the engine computes in float32, not {arrays.values.dtype}: pass weight.float() and, on "
            f"the way back, from_csr(..., dtype={arrays.values.dtype})"
        )
    if arrays.row_pointers.dtype != torch.int32:
        arrays = _with_int32(arrays)
    arrays.check()
    return EngineMatrix(arrays, _pack(arrays) if 0 not in arrays.shape else None)


def _with_int32(arrays: CSRArrays) -> CSRArrays:
    if max(arrays.shape[1], len(arrays.values)) > torch.iinfo(torch.int32).max:
        raise ValueError(f"a matrix of {arrays.shape} with {len(arrays.values)} entries is too large")
    return CSRArrays(arrays.values, arrays.columns.int(), arrays.row_pointers.int(), arrays.shape)


def _pack(arrays: CSRArrays) -> Any:
    from inference import _native

    builder = _native.Builder("", MOST_LANES)
    rows, columns = arrays.shape
    source, target = builder.value(layout((columns,))), builder.value(layout((rows,)))
    builder.input(source)
    begins, indices, weights = (
        part.cpu().contiguous().numpy() for part in (arrays.row_pointers, arrays.columns, arrays.values)
    )
    builder.sparse_linear(source, target, begins, indices, weights)
    return builder.build([target])


def _unwrap(matrix: Any) -> CSRArrays | None:
    return matrix.arrays if isinstance(matrix, EngineMatrix) else None


def _multiply(matrix: EngineMatrix, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        raise ValueError(f'backend "native" computes on the CPU, the input is on {x.device}')
    sizes = x.shape[1], matrix.shape[0]
    if matrix.program is None or 0 in sizes:
        return x.new_zeros(sizes).t()
    out = x.new_empty(sizes)
    matrix.program.run(x.t().contiguous(), out)
    return out.t()


BACKEND = Backend(_wrap, _unwrap, _multiply)
