"""Dense weights, and those of whole models, to CSR matrices and back."""

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from inference.formats.arrays import CSRArrays
from inference.formats.registry import find_backend, unwrap
from inference.formats.weights import CSRWeights, weights_of


@overload
def to_csr(weight: nn.Module, backend: str = ...) -> CSRWeights: ...
@overload
def to_csr(weight: Tensor, backend: str = ...) -> Any: ...
def to_csr(weight: Tensor | nn.Module, backend: str = "scipy") -> Any:
    """Convert a dense weight with exact zeros, or those of a model, to CSR.

    Args:
        weight: Floating-point tensor or parameter, ``[out, in]`` or ``[out, ...]``; more than two
            dimensions (convolutions) are flattened to ``[out, rest]``. Or a module, of which the
            weights of all Linear, convolutional (but transposed) and MultiheadAttention modules are
            converted.
        backend: "scipy" for a ``scipy.sparse.csr_array`` (float32 and float64, on the CPU), "torch"
            for a sparse CSR tensor and "torch_sparse" for a ``torch_sparse.SparseTensor`` on the
            weight's device, "native" for a matrix packed for the engine (float32, on the CPU).

    Returns:
        The matrix, with the dtype of ``weight`` and memory of its own; NaN and inf are kept. For a
        module, a `CSRWeights`: the matrices by the names of the parameters.

    Raises:
        ImportError: If the backend's library is not installed.
        TypeError: If ``weight`` is not a dense floating-point tensor, or of a dtype that the
            backend does not know.
        ValueError: If ``weight`` has fewer than 2 dimensions, if a module has no such weights or they
            are computed by others (pruned, parametrized), or if ``backend`` is unknown.
    """
    wrap = find_backend(backend).wrap
    if not isinstance(weight, nn.Module):
        return wrap(CSRArrays.from_dense(weight))
    weights = weights_of(weight)
    converted: dict[int, Any] = {}  # Two names of one parameter share the matrix.
    for name, parameter in weights.items():
        if id(parameter) not in converted:
            try:
                converted[id(parameter)] = wrap(CSRArrays.from_dense(parameter))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name!r}: {error}") from error
    matrices = {name: converted[id(parameter)] for name, parameter in weights.items()}
    return CSRWeights(matrices, {name: parameter.shape for name, parameter in weights.items()})


@overload
def from_csr(matrix: CSRWeights) -> dict[str, Tensor]: ...
@overload
def from_csr(
    matrix: Any, shape: Sequence[int] | None = ..., dtype: torch.dtype | None = ...
) -> Tensor: ...
def from_csr(matrix: Any, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Any:
    """Convert a CSR matrix of any backend, or a model's, back to dense tensors.

    Undoes `to_csr` bit for bit, but that -0.0 comes back as +0.0.

    Args:
        matrix: ``scipy.sparse`` CSR array or matrix, torch sparse CSR tensor, torch-sparse's
            ``SparseTensor`` or what "native" made, ``[out, rest]``; or a `CSRWeights`.
        shape: Shape of the result, as that of a convolution's weight; by default that of
            ``matrix``. A `CSRWeights` knows its shapes.
        dtype: Dtype of the result; that of ``matrix`` by default.

    Returns:
        A new dense tensor, on the matrix's device; of a `CSRWeights`, such tensors by name.

    Raises:
        TypeError: If ``matrix`` is not a CSR matrix of a known backend.
        ValueError: If ``matrix`` is malformed, or ``shape`` does not fit it.
    """
    if isinstance(matrix, CSRWeights):
        if shape is not None:
            raise ValueError("a whole model's weights have their own shapes; leave shape out")
        shapes = matrix.shapes
        return {name: from_csr(each, shapes[name], dtype) for name, each in matrix.items()}
    return unwrap(matrix).to_dense(shape).to(dtype)
