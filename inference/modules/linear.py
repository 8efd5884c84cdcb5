"""`nn.Linear` with a CSR weight."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from typing_extensions import override

from inference.formats import CSRArrays
from inference.modules.base import CSRModule


class SparseLinear(CSRModule):
    """``y = x W^T + b`` with W as CSR, for inference.

    Takes the place of a `torch.nn.Linear`: deepcopy, pickle, ``state_dict``, ``share_memory`` and
    ``to`` work as with any module, for all it holds is plain buffers. It has no parameters and computes
    no gradients. A weight of zero is not multiplied, so that NaN and inf in the input reach only the
    outputs that they have a weight to; in all else outputs are the dense layer's within rounding.

    Attributes:
        in_features: Size of the input's last dimension.
        out_features: Size of the output's.

    Example:
        >>> sparse = SparseLinear.from_linear(model.fc, backend="torch")
        >>> sparse(torch.zeros(2, 7, 784)).shape
        torch.Size([2, 7, 300])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "torch",
    ) -> None:
        """Make a layer whose weights are all zero, to load a ``state_dict`` into.

        Args:
            in_features: Size of the input's last dimension.
            out_features: Size of the output's.
            bias: Whether there is one.
            device: As of `torch.nn.Linear`.
            dtype: As of `torch.nn.Linear`.
            backend: "torch", "scipy", "torch_sparse" or "native" (the engine, in float32).

        Raises:
            ImportError: If the backend's library is not installed.
            TypeError: If the backend does not compute in that dtype.
            ValueError: If the backend is unknown.
        """
        super().__init__((out_features, in_features), bias, backend, device, dtype)
        self.in_features, self.out_features = in_features, out_features
        self._try()

    @classmethod
    def from_linear(cls, linear: nn.Linear, backend: str = "torch") -> SparseLinear:
        """Copy a dense layer.

        Args:
            linear: Left as it is; later changes to its weights do not reach the copy.
            backend: As above.

        Returns:
            A module of the same dtype, on the same device.

        Raises:
            ImportError: If the backend's library is not installed.
            TypeError: If it is no Linear, or one with a forward of its own, or the backend does not
                compute in its dtype.
            ValueError: If the backend is unknown.
        """
        if not isinstance(linear, nn.Linear) or type(linear).forward is not nn.Linear.forward:
            raise TypeError(f"expected a torch.nn.Linear, got {type(linear).__name__}")
        weight = linear.weight
        made = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            weight.device,
            weight.dtype,
            backend=backend,
        )
        made._take(weight, linear.bias)
        return made.train(linear.training)

    @override
    def _product_arrays(self) -> CSRArrays:
        return self.arrays

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            input: ``[..., in_features]``, of the weight's dtype and on its device.

        Returns:
            A new tensor ``[..., out_features]``.

        Raises:
            RuntimeError: If the input requires a gradient.
            TypeError: If it is of another dtype or on another device.
            ValueError: If its last dimension is of another size.
        """
        self._check(input)
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(f"input must be [..., {self.in_features}], got {tuple(input.shape)}")
        lead = input.shape[:-1]
        rows = input.reshape(prod(lead), self.in_features)
        out = self._add_bias(self._multiply(rows.t()).t().contiguous())
        return out.reshape(*lead, self.out_features)

    @override
    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, sparsity={self.sparsity:.3f}, backend={self.backend!r}"
        )
