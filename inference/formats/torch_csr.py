"""torch's sparse CSR tensor: all floating-point dtypes, on the weight's device."""

from typing import Any

import torch
from torch import Tensor

from inference.formats.arrays import CSRArrays
from inference.formats.backend import Backend


def _unwrap(matrix: Any) -> CSRArrays | None:
    if not isinstance(matrix, Tensor) or matrix.layout != torch.sparse_csr:
        return None
    if matrix.dim() != 2:
        raise ValueError(f"expected one CSR matrix, got a batch of shape {tuple(matrix.shape)}")
    matrix = matrix.detach()
    rows, columns = matrix.shape
    return CSRArrays(matrix.values(), matrix.col_indices(), matrix.crow_indices(), (rows, columns))


def _multiply(matrix: Tensor, x: Tensor) -> Tensor:
    if matrix.device.type == "cpu" and matrix.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"torch has no CSR product for {matrix.dtype} on the CPU; convert to float32, or take "
            'backend "torch_sparse"'
        )
    if torch.is_autocast_enabled(x.device.type):
        # It would make both 16 bits wide, for which there is no product.
        with torch.autocast(x.device.type, enabled=False):
            return matrix @ x
    return matrix @ x


BACKEND = Backend(CSRArrays.to_torch, _unwrap, _multiply)
