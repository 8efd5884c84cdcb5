"""A state_dict in a file, by itself or next to a graph."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor

from inference.artifact import keys
from inference.artifact.codec import Encoded, decode, encode
from inference.artifact.container import Contents, blamed, read, write
from inference.artifact.names import layout, storage
from inference.files import FilePath


def save_state(path: FilePath, tensors: Mapping[str, Tensor]) -> None:
    """Save tensors in one small file, those with many zeros as CSR.

    The file appears whole or not at all: a write that fails leaves what was there before.

    Args:
        path: The file; the name is used as it is.
        tensors: Dense tensors by name, as ``model.state_dict()``; any shapes, on any device, of float16,
            bfloat16, float32, float64, bool, uint8 or a signed integer dtype.

    Raises:
        OSError: If the file cannot be written.
        TypeError: If a tensor is not dense or of another dtype.
        ValueError: If two names cannot be told apart in a file.
    """
    encoded, tied = encode_state(tensors)
    write(path, Contents(encoded, tied=tied, provenance=provenance(encoded)))


def load_state(path: FilePath, *, max_bytes: int = keys.MAX_BYTES) -> dict[str, Tensor]:
    """Load the tensors that `save_state` saved, or those of the model that `SparseModel.save` saved.

    Args:
        path: The file. It may come from anyone: nothing in it is ever run.
        max_bytes: That the file, and its tensors when dense, may take.

    Returns:
        The tensors by name, dense, on the CPU, in the shapes and dtypes that were saved; bit for bit,
        but that -0.0 in a tensor with many zeros comes back as +0.0. Names of one tensor get one each.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, larger than allowed, of another format or of a newer version.
    """
    contents = read(path, max_bytes)
    with blamed(path):
        return decode_state(contents.tensors, contents.constants, contents.tied)


def encode_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Encoded], dict[str, str]]:
    """Encode a state_dict.

    Args:
        state: Dense tensors by name.

    Returns:
        Tensors by name, and the other names of tensors that have several.

    Raises:
        TypeError: If a tensor is not dense.
    """
    tensors: dict[str, Encoded] = {}
    tied: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, tensor in state.items():
        if tensor.layout != torch.strided:
            raise TypeError(f"tensor {name!r} is {tensor.layout}; only dense tensors can be saved")
        place = (storage(tensor), *layout(tensor), tensor.dtype)
        if tensor.numel() and place in first:
            tied[name] = first[place]
        else:
            first[place] = name
            tensors[name] = encode(tensor)
    return tensors, tied


def decode_state(
    tensors: Mapping[str, Encoded], constants: frozenset[str], tied: Mapping[str, str]
) -> dict[str, Tensor]:
    """Undo `encode_state`; tied names come last, with tensors of their own."""
    own = {name: name for name in tensors if name not in constants}
    return {name: decode_named(at, tensors[at]) for name, at in (own | dict(tied)).items()}


def decode_named(name: str, tensor: Encoded) -> Tensor:
    """Decode a tensor; a ValueError says which it is."""
    try:
        return decode(tensor)
    except ValueError as error:
        raise ValueError(f"tensor {name!r}: {error}") from error


def provenance(tensors: Mapping[str, Encoded]) -> dict[str, Any]:
    """Return what made a file, and of how many weights how many are zero."""
    try:
        version = importlib.metadata.version("dwf-optim")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    weights = [e for e in tensors.values() if len(e.shape) >= 2 and e.dtype in keys.DTYPES.values()]
    return {
        "dwf-optim": version,
        "torch": str(torch.__version__),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "weights": sum(math.prod(each.shape) for each in weights),
        "nonzero": sum(each.count_nonzero() for each in weights),
    }
