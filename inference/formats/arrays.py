"""CSR as plain arrays: what all libraries' matrices are made of."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class CSRArrays:
    """The arrays of one CSR matrix, as plain tensors that copy, pickle and share like any other.

    Attributes:
        values: The non-zero entries row by row, shape ``[nnz]``.
        columns: Their column ids, rising within a row, shape ``[nnz]``, int32 or int64.
        row_pointers: Where each row starts in ``values``, shape ``[rows + 1]``, as ``columns``.
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
        """Collect the non-zero entries of a dense weight.

        Args:
            weight: Floating-point tensor or parameter, ``[out, in]`` or ``[out, ...]``; more than
                two dimensions are flattened to ``[out, rest]``.

        Returns:
            New arrays on the weight's device, detached from autograd. NaN and inf count as
            non-zero, -0.0 as zero.

        Raises:
            TypeError: If ``weight`` is not a dense tensor of a floating-point dtype.
            ValueError: If it has fewer than 2 dimensions.
        """
        if not isinstance(weight, Tensor):
            raise TypeError(f"weight must be a torch.Tensor, got {type(weight).__name__}")
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
        index = index_dtype(columns, len(row_ids))
        row_pointers = torch.zeros(rows + 1, dtype=index, device=matrix.device)
        row_pointers[1:] = nonzero.sum(1).cumsum(0)
        values = matrix[row_ids, column_ids]
        return cls(values, column_ids.to(index), row_pointers, (rows, columns))

    def to_dense(self, shape: Sequence[int] | None = None) -> Tensor:
        """Write the entries into a new dense tensor.

        Args:
            shape: Of the result, as that of a convolution's weight; by default ``[rows, columns]``.

        Returns:
            Tensor of the dtype and device of ``values``.

        Raises:
            ValueError: If the arrays do not describe a CSR matrix of this shape, or ``shape`` does
                not fit it.
        """
        wanted = self.shape if shape is None else tuple(shape)
        if wanted[:1] != self.shape[:1] or math.prod(wanted[1:]) != self.shape[1]:
            raise ValueError(
                f"shape {wanted} does not fit a matrix of {self.shape}: the first dimension must be "
                "the number of rows, the product of the others the number of columns"
            )
        self.check()  # Indexing would not: a negative id would wrap around.
        # Indexing copies bits; torch's own to_dense adds to zero, which alters signalling NaNs.
        dense = self.values.new_zeros(self.shape)
        dense[self.row_ids(), self.columns.long()] = self.values
        return dense.reshape(wanted)

    def row_ids(self) -> Tensor:
        """Return the row of each entry, shape ``[nnz]``, int64."""
        rows = torch.arange(self.shape[0], device=self.values.device)
        return rows.repeat_interleave(self.row_pointers.diff().long())

    def to_torch(self) -> Tensor:
        """Wrap the arrays, which are not copied, in torch's sparse CSR tensor.

        Raises:
            ValueError: If the arrays do not describe a CSR matrix of this shape.
        """
        try:
            with _without_beta_warning():
                return torch.sparse_csr_tensor(
                    self.row_pointers, self.columns, self.values, self.shape, check_invariants=True
                )
        except RuntimeError as error:
            raise ValueError(f"not a valid CSR matrix of shape {self.shape}: {error}") from error

    def check(self) -> None:
        """Check that the arrays describe a matrix of this shape, with columns rising in each row.

        Raises:
            ValueError: If they do not.
        """
        self.to_torch()


def index_dtype(columns: int, entries: int) -> torch.dtype:
    """Return int32 where it can index a matrix of so many columns and entries, else int64."""
    # int32 halves the index bytes, and the MKL that torch links takes no other index type.
    return torch.int32 if max(columns, entries) <= torch.iinfo(torch.int32).max else torch.int64


@contextmanager
def _without_beta_warning() -> Iterator[None]:
    """Hide torch's notice, once a process, that CSR tensors are in beta state."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta state", category=UserWarning
        )
        yield
