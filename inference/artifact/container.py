"""Tensors and a JSON header in one safetensors file: written whole or not at all, checked when read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from inference.artifact import keys
from inference.artifact.codec import WIDTHS, Encoded, checksum
from inference.artifact.values import as_dict, as_str, sizes
from inference.files import FilePath, write_bytes


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds.

    Attributes:
        tensors: By name.
        constants: Which of them are no entries of the model's state_dict.
        tied: Further names in the state_dict, and the tensors that they name.
        provenance: What made the file.
        parts: The header's other entries: the graph, and what belongs to it.
    """

    tensors: Mapping[str, Encoded]
    constants: frozenset[str] = frozenset()
    tied: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def blamed(path: FilePath) -> Iterator[None]:
    """Turn whatever goes wrong with a file's content into a ValueError that names the file."""
    try:
        yield
    # A hostile file may make torch, NumPy and JSON raise nearly anything, and it all means the same.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{os.fspath(path)} cannot be loaded: {reason}") from error


def write(path: FilePath, contents: Contents) -> None:
    """Write a file; a write that fails leaves what was there before.

    Args:
        path: The file; its name is used as it is.
        contents: What it shall hold.

    Raises:
        OSError: If it cannot be written.
        TypeError: If a tensor is of a dtype that no file holds.
        ValueError: If two tensors' names cannot be told apart in a file.
    """
    arrays: dict[str, Tensor] = {}
    for name, tensor in contents.tensors.items():
        for key, array in zip(_array_names(name, tensor), tensor.arrays(), strict=True):
            if key in arrays or key == "__metadata__":
                raise ValueError(f"a file cannot hold a tensor of the name {name!r}; rename it")
            arrays[key] = array
    header = json.dumps(_header(contents), separators=(",", ":"), allow_nan=False)
    metadata = {
        keys.META_FORMAT: keys.FORMAT,
        keys.META_VERSION: str(keys.VERSION),
        keys.META_CHECKSUM: checksum([header.encode()]),
        keys.META_HEADER: header,
    }
    write_bytes(path, safetensors.torch.save(arrays, metadata))


def _header(contents: Contents) -> dict[str, Any]:
    tensors: dict[str, dict[str, Any]] = {}
    for name, tensor in contents.tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in keys.DTYPES:
            raise TypeError(
                f"tensor {name!r} is of {tensor.dtype}; a file holds tensors of {', '.join(keys.DTYPES)}"
            )
        tensors[name] = {
            keys.SHAPE: list(tensor.shape),
            keys.DTYPE: dtype,
            keys.ENCODING: keys.DENSE if tensor.gaps is None else keys.CSR,
            keys.CHECKSUM: tensor.checksum(),
        }
        if name in contents.constants:
            tensors[name][keys.CONSTANT] = True
    return {
        keys.TENSORS: tensors,
        keys.TIED: dict(contents.tied),
        keys.PROVENANCE: dict(contents.provenance),
        **contents.parts,
    }


def _array_names(name: str, tensor: Encoded) -> tuple[str, ...]:
    if tensor.gaps is None:
        return (name,)
    return (name + keys.VALUES, name + keys.GAPS, name + keys.COUNTS)


def read(path: FilePath, max_bytes: int) -> Contents:
    """Read a file, and check all but what the header says of graph, inputs and plan.

    Args:
        path: The file.
        max_bytes: That the file, and its tensors when dense, may take.

    Returns:
        What it holds; the tensors in memory of their own.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, larger than allowed, of another format or of a newer version.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(
                f"{os.fspath(path)} cannot be loaded: its {size} bytes are more than the {max_bytes} "
                "allowed; if you trust it, pass a larger max_bytes"
            )
        content = file.read(size)
    with blamed(path):
        return parse(content, max_bytes)


def parse(content: bytes, max_bytes: int) -> Contents:
    """Parse the bytes of a file, as `read` does."""
    try:
        arrays = safetensors.torch.load(content)
    except SafetensorError as error:
        raise ValueError(f"it is damaged, or no safetensors file: {error}") from error
    length = int.from_bytes(content[:8], "little")
    metadata = as_dict(json.loads(content[8 : 8 + length]).get("__metadata__", {}), "the metadata")
    if metadata.get(keys.META_FORMAT) != keys.FORMAT:
        raise ValueError("it is no file of this package: its metadata do not name the format")
    version = as_str(metadata.get(keys.META_VERSION), "the version")
    reader = READERS.get(version)
    if reader is None:
        raise ValueError(
            f"its format is version {version}, this version of dwf-optim reads up to {keys.VERSION}: "
            "upgrade dwf-optim to the version that saved it"
        )
    header = as_str(metadata.get(keys.META_HEADER), "the header")
    if metadata.get(keys.META_CHECKSUM) != checksum([header.encode()]):
        raise ValueError("it is damaged: the header's checksum does not match")
    return reader(as_dict(json.loads(header), "the header"), arrays, max_bytes)


def _read_1(header: Mapping[str, Any], arrays: dict[str, Tensor], max_bytes: int) -> Contents:
    tensors: dict[str, Encoded] = {}
    constants = set()
    total = 0
    for name, entry in as_dict(header.get(keys.TENSORS), "tensors").items():
        entry = as_dict(entry, f"tensor {name!r}")
        shape = sizes(entry.get(keys.SHAPE), f"the shape of {name!r}")
        dtype = keys.DTYPES.get(as_str(entry.get(keys.DTYPE), f"the dtype of {name!r}"))
        if dtype is None:
            raise ValueError(f"tensor {name!r} has the unknown dtype {entry[keys.DTYPE]!r}")
        total += math.prod(shape) * dtype.itemsize
        if total > max_bytes:
            raise ValueError(
                f"its tensors take more than {max_bytes} bytes when dense; if you trust it, pass a "
                "larger max_bytes"
            )
        tensors[name] = _take(name, entry, shape, dtype, arrays)
        if entry.get(keys.CONSTANT, False):
            constants.add(name)
    if arrays:
        raise ValueError(f"its header does not mention {sorted(arrays)}")
    tied = {
        key: as_str(name, f"what {key!r} is tied to")
        for key, name in as_dict(header.get(keys.TIED), "tied").items()
    }
    for key, name in tied.items():
        if name not in tensors or key in tensors:
            raise ValueError(f"{key!r} cannot be tied to {name!r}")
    provenance = as_dict(header.get(keys.PROVENANCE), "provenance")
    known = (keys.TENSORS, keys.TIED, keys.PROVENANCE)
    parts = {key: value for key, value in header.items() if key not in known}
    return Contents(tensors, frozenset(constants), tied, provenance, parts)


def _take(
    name: str,
    entry: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    arrays: dict[str, Tensor],
) -> Encoded:
    """Take a tensor's arrays out of a file's."""

    def array(key: str, *kinds: torch.dtype) -> Tensor:
        found = arrays.pop(key, None)
        if found is None or found.dtype not in kinds:
            raise ValueError(f"tensor {name!r} lacks the array {key!r} of {kinds}")
        return found

    encoding = entry.get(keys.ENCODING)
    if encoding == keys.DENSE:
        tensor = Encoded(shape, array(name, dtype))
        if tuple(tensor.values.shape) != shape:
            raise ValueError(f"tensor {name!r} has shape {list(tensor.values.shape)}, not {list(shape)}")
    elif encoding == keys.CSR:
        parts = (
            array(name + keys.VALUES, dtype),
            array(name + keys.GAPS, *WIDTHS),
            array(name + keys.COUNTS, *WIDTHS),
        )
        if any(part.dim() != 1 for part in parts):
            raise ValueError(f"tensor {name!r} has arrays of more than one dimension")
        tensor = Encoded(shape, *parts)
    else:
        raise ValueError(f"tensor {name!r} has the unknown encoding {encoding!r}")
    if dtype == torch.bool and bool((tensor.values.view(torch.uint8) > 1).any()):
        raise ValueError(f"tensor {name!r} holds a byte that is neither true nor false")
    if entry.get(keys.CHECKSUM) != tensor.checksum():
        raise ValueError(f"it is damaged: the checksum of tensor {name!r} does not match")
    return tensor


# By version, how what it says becomes `Contents`.
READERS: dict[str, Callable[[Mapping[str, Any], dict[str, Tensor], int], Contents]] = {"1": _read_1}
