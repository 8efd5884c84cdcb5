"""`nn.Conv2d` with a CSR weight."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from inference.formats import CSRArrays, index_dtype
from inference.modules.base import CSRModule

OPTIONS = ("stride", "padding", "dilation", "groups", "padding_mode")


class SparseConv2d(CSRModule):
    """`torch.nn.Conv2d` with a CSR weight ``[out, in / groups * height * width]``, for inference.

    It unfolds the input into all its windows (`torch.nn.functional.unfold`) and multiplies these with
    the matrix. That is there for what CSR is good for, memory and interchange: expect it to be slower
    than the dense convolution. `inference.compile` has kernels that need no unfolding.

    All else is as with `SparseLinear`: plain buffers, no parameters, no gradients, zeros not multiplied.

    Attributes:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Rows, columns; ``stride``, ``padding`` and ``dilation`` as in `torch.nn.Conv2d`.
        groups: Blocks of channels.
        padding_mode: What the border holds.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "torch",
    ) -> None:
        """Make a layer whose weights are all zero, to load a ``state_dict`` into.

        Args:
            in_channels: As all but ``backend`` of `torch.nn.Conv2d`, with its meaning and its errors.
            out_channels: Channels of the output.
            kernel_size: Rows, columns, or one number for both.
            stride: Likewise.
            padding: Likewise, or "valid" or "same".
            dilation: Likewise.
            groups: Blocks of channels.
            bias: Whether there is one.
            padding_mode: "zeros", "reflect", "replicate" or "circular".
            device: Where the buffers are.
            dtype: Of weights and bias.
            backend: "torch", "scipy", "torch_sparse" or "native" (the engine, in float32).

        Raises:
            ImportError: If the backend's library is not installed.
            TypeError: If the backend does not compute in that dtype.
            ValueError: If the backend is unknown, or what `torch.nn.Conv2d` raises.
        """
        # torch's own module, without memory, knows what fits together.
        like = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,  # type: ignore[arg-type]  # checked by it
            device="meta",
        )
        super().__init__(tuple(like.weight.shape), bias, backend, device, dtype)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = like.kernel_size, like.stride, like.dilation
        self.padding, self.padding_mode, self.groups = like.padding, padding_mode, groups
        # Left, right, above, below, as F.pad takes it.
        self._border: list[int] = list(like._reversed_padding_repeated_twice)
        self._try()

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, backend: str = "torch") -> SparseConv2d:
        """Copy a dense layer.

        Args:
            conv: Left as it is; later changes to its weights do not reach the copy.
            backend: As above.

        Returns:
            A module of the same dtype, on the same device.

        Raises:
            ImportError: If the backend's library is not installed.
            TypeError: If it is no Conv2d, or one with a forward of its own, or the backend does not
                compute in its dtype.
            ValueError: If the backend is unknown.
        """
        if not isinstance(conv, nn.Conv2d) or type(conv).forward is not nn.Conv2d.forward:
            raise TypeError(f"expected a torch.nn.Conv2d, got {type(conv).__name__}")
        options: dict[str, Any] = {name: getattr(conv, name) for name in OPTIONS}
        made = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]  # a pair, typed as a tuple of any length
            **options,
            bias=conv.bias is not None,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
            backend=backend,
        )
        made._take(conv.weight, conv.bias)
        return made.train(conv.training)

    @override
    def _product_arrays(self) -> CSRArrays:
        """Move each group's columns to where its channels are: one matrix with blocks."""
        arrays = self.arrays
        if self.groups == 1:
            return arrays
        rows, columns = arrays.shape
        index = index_dtype(columns * self.groups, len(arrays.values))
        starts = arrays.row_ids() // (rows // self.groups) * columns
        return CSRArrays(
            arrays.values,
            (arrays.columns + starts).to(index),
            arrays.row_pointers.to(index),
            (rows, columns * self.groups),
        )

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            input: ``[batch, in_channels, height, width]``, or without the batch; of the weight's
                dtype and on its device.

        Returns:
            A new tensor ``[batch, out_channels, height, width]``, or without the batch.

        Raises:
            RuntimeError: If the input requires a gradient.
            TypeError: If it is of another dtype or on another device.
            ValueError: If it has other dimensions, or is smaller than the kernel.
        """
        self._check(input)
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise ValueError(
                f"input must be [batch, {self.in_channels}, height, width] or without the batch, got "
                f"{tuple(input.shape)}"
            )
        images = input if input.dim() == 4 else input[None]
        if any(self._border):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            images = F.pad(images, self._border, mode=mode)
        sizes = [
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                images.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        ]
        if min(sizes) < 1:
            raise ValueError(
                f"the input is {tuple(images.shape[2:])} with its padding, too small for a kernel of "
                f"{self.kernel_size} with dilation {self.dilation}"
            )
        windows = F.unfold(images, self.kernel_size, self.dilation, 0, self.stride)
        batch, columns, places = windows.shape
        out = self._multiply(windows.transpose(0, 1).reshape(columns, batch * places))
        out = out.reshape(self.out_channels, batch, places).transpose(0, 1)
        out = self._add_bias(out.contiguous())
        return out.reshape(*input.shape[:-3], self.out_channels, *sizes)

    @override
    def extra_repr(self) -> str:
        options = "".join(f", {name}={getattr(self, name)!r}" for name in OPTIONS)
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{options}, "
            f"bias={self.bias is not None}, sparsity={self.sparsity:.3f}, backend={self.backend!r}"
        )
