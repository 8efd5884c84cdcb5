"""CSR products of other libraries as ways to compute linear layers, from NumPy to NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from inference import to_csr
from inference.formats import find_backend

# By the names in tables.
BACKENDS = {"SciPy CSR": "scipy", "torch CSR": "torch", "torch-sparse": "torch_sparse"}


def csr_runtime(model: nn.Sequential, backend: str) -> Callable[[np.ndarray], np.ndarray]:
    """Run linear layers and ReLUs by a library's product ``W @ X^T``, which reads memory in order.

    Args:
        model: Of Linear and ReLU modules, which take turns.
        backend: Of `inference.to_csr`.
    """
    layers = [part for part in model if isinstance(part, nn.Linear)]
    matrices = [to_csr(layer.weight, backend=backend) for layer in layers]
    biases = [layer.bias.detach()[:, None] for layer in layers]
    multiply = find_backend(backend).multiply

    def call(x: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(x).t()
        for k, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
            y = multiply(matrix, y).add_(bias)
            if k + 1 < len(matrices):
                y = y.relu_()
        return y.t().contiguous().numpy()

    return call
