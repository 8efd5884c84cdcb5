"""Constants stored without their zeros.

Indices count elements through the whole tensor and are 64-bit by the specification, but it does not say
that they must be stored at full width: in the field of integers, rather than as raw bytes, each takes as
many bytes as its size asks for, 3 up to two million elements. Runtimes make dense tensors of it when
they load a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.onnx.extra import need

if TYPE_CHECKING:
    import onnx

# Bytes for dimensions and for the fields of the second tensor.
OVERHEAD = 64


def is_smaller(data: np.ndarray[Any, Any]) -> bool:
    """Say whether a tensor takes less space without its zeros."""
    if data.dtype != np.float32 or not data.size:
        return False
    indices = np.flatnonzero(data)
    return OVERHEAD + 4 * len(indices) + index_bytes(indices) < data.nbytes


def index_bytes(indices: np.ndarray[Any, Any]) -> int:
    """Count the bytes of indices as protobuf stores them, 7 bits in each."""
    return sum(int((indices >= 1 << bits).sum()) for bits in range(7, 63, 7)) + len(indices)


def to_sparse(name: str, data: np.ndarray[Any, Any]) -> onnx.SparseTensorProto:
    """Write a tensor's entries that are not zero.

    Args:
        name: Of the initializer.
        data: Float32, of any shape. Its -0.0 are zeros too.

    Returns:
        The initializer.
    """
    api: Any = need("onnx")
    indices = np.flatnonzero(data)
    if not len(indices):
        indices = np.zeros(1, np.int64)  # Runtimes do not take a tensor without entries.
    values = api.numpy_helper.from_array(np.ascontiguousarray(data.reshape(-1)[indices]), name)
    places = api.TensorProto(
        data_type=api.TensorProto.INT64, dims=[len(indices)], int64_data=indices.tolist()
    )
    made: onnx.SparseTensorProto = api.SparseTensorProto(values=values, indices=places, dims=data.shape)
    return made
