"""One tensor as it lies in a file: dense, or as CSR with short column ids.

A CSR tensor ``[rows, ...]``, its other dimensions flattened to columns, is three arrays:

- values: the entries that are not zero, row by row, in the tensor's dtype.
- counts: how many of them each row has, in the shortest unsigned integers.
- gaps: for each entry how many zeros are before it since the last entry of its row, or since the row's
  begin. They are unsigned integers of 8, 16 or 32 bits, of which the largest number m stands for "m
  zeros, and more follow", so that one long gap does not make all others long.

Gaps make column ids that rise in every row, whatever the bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inference.graph import Shape

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WIDTHS = (torch.uint8, torch.uint16, torch.uint32)
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tensor as a file holds it.

    Attributes:
        shape: Of the tensor.
        values: The tensor itself, or ``[entries]`` where it is CSR; on the CPU, contiguous.
        gaps: ``[entries or more]``, of unsigned integers; None where it is dense.
        counts: ``[rows]``, of unsigned integers; None where it is dense.
    """

    shape: Shape
    values: Tensor
    gaps: Tensor | None = None
    counts: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensor."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays())

    def arrays(self) -> tuple[Tensor, ...]:
        """Return the arrays: values, and gaps and counts where it is CSR."""
        return (self.values,) if self.gaps is None else (self.values, self.gaps, _known(self.counts))

    def checksum(self) -> str:
        """Return a checksum of all arrays: 32 hexadecimal digits."""
        return checksum(as_bytes(array) for array in self.arrays())

    def count_nonzero(self) -> int:
        """Return how many entries are not zero."""
        return int(self.values.count_nonzero())


def checksum(parts: Iterable[Any]) -> str:
    """Return BLAKE2b's 128 bits over some bytes, in hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def as_bytes(array: Tensor) -> memoryview:
    """Return a contiguous tensor's memory."""
    if not array.numel():
        return memoryview(b"")
    return array.detach().reshape(-1).view(torch.uint8).numpy().data


def encode(tensor: Tensor) -> Encoded:
    """Encode a tensor in whichever way takes fewer bytes.

    Args:
        tensor: Dense, on any device.

    Returns:
        Arrays of their own. As CSR, -0.0 is a zero; NaN and inf are none.
    """
    dense = tensor.detach().to("cpu").contiguous()
    if dense.dim() >= 2 and dense.dtype in FLOAT_DTYPES and dense.numel():
        flat = (dense.view(-1) != 0).nonzero().view(-1)
        # An entry takes its value and a gap of one byte at least.
        if len(flat) * (dense.itemsize + 1) + len(dense) < dense.nbytes:
            csr = _encode_rows(dense, flat)
            if csr.nbytes < dense.nbytes:
                return csr
    return Encoded(tuple(dense.shape), dense.clone() if dense.data_ptr() == tensor.data_ptr() else dense)


def _encode_rows(dense: Tensor, flat: Tensor) -> Encoded:
    rows, width = len(dense), dense[0].numel()
    places = flat.numpy()
    counts = np.bincount(places // width, minlength=rows)
    columns = places % width
    gaps = np.diff(columns, prepend=-1) - 1
    begins = (np.cumsum(counts) - counts)[counts > 0]
    gaps[begins] = columns[begins]
    kind = min(WIDTHS, key=lambda kind: _codes(gaps, kind) * kind.itemsize)
    largest = torch.iinfo(kind).max
    codes = np.full(_codes(gaps, kind), largest, _numpy(kind))
    codes[np.cumsum(gaps // largest + 1) - 1] = gaps % largest
    short = next(kind for kind in WIDTHS if counts.max(initial=0) <= torch.iinfo(kind).max)
    return Encoded(
        tuple(dense.shape),
        dense.view(-1)[flat],
        torch.from_numpy(codes),
        torch.from_numpy(counts.astype(_numpy(short))),
    )


def _codes(gaps: Ints, kind: torch.dtype) -> int:
    """Return how many integers gaps take."""
    return len(gaps) + int((gaps // torch.iinfo(kind).max).sum())


def decode(encoded: Encoded) -> Tensor:
    """Return the dense tensor.

    Args:
        encoded: Any arrays of the dtypes that `Encoded` says; their content is checked.

    Returns:
        A tensor of its own.

    Raises:
        ValueError: If the arrays do not fit each other or the shape.
    """
    shape, values = encoded.shape, encoded.values
    if encoded.gaps is None:
        return values.clone()
    dense = torch.zeros(shape, dtype=values.dtype)
    dense.view(-1)[torch.from_numpy(_places(encoded))] = values
    return dense


def _places(encoded: Encoded) -> Ints:
    """Return where in the flattened tensor the entries are."""
    assert encoded.gaps is not None
    if len(encoded.shape) < 2 or math.prod(encoded.shape) == 0:
        raise ValueError(f"shape {list(encoded.shape)} cannot be CSR")
    rows, width = encoded.shape[0], math.prod(encoded.shape[1:])
    counts = _known(encoded.counts).numpy().astype(np.int64)
    codes = encoded.gaps.numpy()
    is_entry = codes != torch.iinfo(encoded.gaps.dtype).max
    at = np.flatnonzero(is_entry)
    if len(counts) != rows or not int(counts.sum()) == len(at) == len(encoded.values):
        raise ValueError(
            f"counts of {len(counts)} rows add up to {int(counts.sum())}, for {len(at)} gaps, "
            f"{len(encoded.values)} values and {rows} rows"
        )
    if len(codes) and not is_entry[-1]:
        raise ValueError("its last gap leads to no value")
    # How far each entry is behind the first column of the first row, had all rows one begin.
    passed = np.cumsum(codes.astype(np.int64) + is_entry)[at]
    begins = np.cumsum(counts) - counts
    before = np.concatenate((np.zeros(1, np.int64), passed))[begins]
    columns = passed - np.repeat(before, counts) - 1
    if (columns >= width).any():
        raise ValueError(f"column {int(columns.max())} is outside its {width} columns")
    places: Ints = np.repeat(np.arange(rows) * width, counts) + columns
    return places


def _numpy(kind: torch.dtype) -> Any:
    return {torch.uint8: np.uint8, torch.uint16: np.uint16, torch.uint32: np.uint32}[kind]


def _known(counts: Tensor | None) -> Tensor:
    assert counts is not None
    return counts
