"""One file for named tensors, those of two and more dimensions as CSR.

The file is an uncompressed ``.npz``: a JSON header and, for each tensor, plain arrays. Its size is
that of the numbers, so it shows what CSR takes on disk. Nothing is ever unpickled.
"""

import io
import json
import math
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.formats import FLOAT_DTYPES, CSRArrays

VERSION = 1
HEADER = "header"
# What NumPy lacks is stored as an integer of the same bits.
STORED_AS = {torch.bfloat16: torch.int16}
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *FLOAT_DTYPES,
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    )
}


def write_csr(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors to one file, floating-point ones of two and more dimensions as CSR.

    The file appears whole or not at all: a write that fails leaves what was there before.

    Args:
        path: the file; the name is used as it is.
        tensors: dense tensors by name, as ``model.state_dict()``; any shapes, on any device, of
            float16, bfloat16, float32, float64, bool, uint8 or a signed integer dtype.

    Raises:
        TypeError: if a tensor is not dense or of another dtype.
    """
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for position, (name, tensor) in enumerate(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES or tensor.layout != torch.strided:
            raise TypeError(
                f"tensor {name!r} is {tensor.layout} of {tensor.dtype}; only dense tensors of "
                f"{', '.join(DTYPES)} can be written"
            )
        sparse = tensor.dim() >= 2 and tensor.is_floating_point()
        entries.append({"name": name, "dtype": dtype, "shape": list(tensor.shape), "sparse": sparse})
        if not sparse:
            arrays[f"{position}.values"] = _to_numpy(tensor)
            continue
        csr = CSRArrays.from_dense(tensor)
        columns = _to_numpy(csr.columns)
        arrays[f"{position}.values"] = _to_numpy(csr.values)
        arrays[f"{position}.columns"] = columns.astype(np.uint16) if csr.shape[1] <= 2**16 else columns
        arrays[f"{position}.row_pointers"] = _to_numpy(csr.row_pointers)
    header = json.dumps({"version": VERSION, "tensors": entries}).encode()
    arrays[HEADER] = np.frombuffer(header, dtype=np.uint8)

    target = Path(path)
    # In the same folder, so that the replacement is one rename on one file system.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def read_csr(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads what `write_csr` wrote.

    Args:
        path: the file.

    Returns:
        The tensors by name, dense, on the CPU, in the order, shapes and dtypes that were written;
        bit for bit, but that -0.0 in a tensor stored as CSR comes back as +0.0.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged, not from `write_csr`, or of another version of the format.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _parse(archive)
    # Damaged bytes make the parsers raise nearly anything, and it all means the same.
    except Exception as error:
        raise ValueError(
            f"{os.fspath(path)} cannot be read as a CSR file ({error}); if it is damaged, copy it "
            "again, or write it again from the dense model"
        ) from error


def _parse(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    def load(name: str) -> Tensor:
        # Read whole first: the checksum is verified before anything is parsed.
        member = io.BytesIO(archive.read(f"{name}.npy"))
        array: np.ndarray[Any, Any] = np.load(member, allow_pickle=False)
        return torch.from_numpy(array.astype(np.int32) if array.dtype == np.uint16 else array)

    header = json.loads(load(HEADER).numpy().tobytes())
    if header["version"] != VERSION:
        raise ValueError(f"its format is version {header['version']}, this code reads {VERSION}")
    tensors: dict[str, Tensor] = {}
    for position, entry in enumerate(header["tensors"]):
        shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
        values = load(f"{position}.values").view(dtype)
        if entry["sparse"]:
            columns, pointers = load(f"{position}.columns"), load(f"{position}.row_pointers")
            flat = (shape[0], math.prod(shape[1:]))
            values = CSRArrays(values, columns, pointers, flat).to_dense()
        tensors[entry["name"]] = values.reshape(shape)
    return tensors


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    stored = STORED_AS.get(tensor.dtype, tensor.dtype)
    array: np.ndarray[Any, Any] = tensor.detach().cpu().contiguous().view(stored).numpy()
    return array
