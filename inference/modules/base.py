"""What the modules with CSR weights share: their buffers, how these load, and the product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from inference.formats import CSRArrays, find_backend, index_dtype

ARRAYS = ("values", "columns", "row_pointers")
DENSE = "weight"  # The name that a dense module's state_dict has for it.


class CSRModule(nn.Module, ABC):
    """A module whose weight is a CSR matrix in three buffers.

    The buffers are the truth: the backend's matrix is made of them when it is first needed, again when
    they have changed, and is never copied, pickled or saved.

    Attributes:
        values: The weights that are not zero, row by row, ``[nnz]``.
        columns: Their columns in the weight flattened to ``[out, rest]``, ``[nnz]``.
        row_pointers: Where each row starts in ``values``, ``[out + 1]``.
        bias: ``[out]``, a buffer too, or None.
        backend: What computes the product.
    """

    values: Tensor
    columns: Tensor
    row_pointers: Tensor
    bias: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: bool,
        backend: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Start with all weights zero. Classes end their own construction with `_try`.

        Args:
            shape: Of the dense weight, ``[out, ...]``.
            bias: Whether there is one.
            backend: A key of `inference.formats.BACKENDS`.
            device: As of torch's modules.
            dtype: As of torch's modules.

        Raises:
            ValueError: If the backend is unknown.
        """
        super().__init__()
        self.backend = backend
        self._shape = shape
        self._matrix: tuple[Any, ...] | None = None
        find_backend(backend)
        rows, columns = shape[0], prod(shape[1:])
        index = index_dtype(columns, 0)
        self.register_buffer("values", torch.empty(0, dtype=dtype, device=device))
        self.register_buffer("columns", torch.empty(0, dtype=index, device=device))
        self.register_buffer("row_pointers", torch.zeros(rows + 1, dtype=index, device=device))
        self.register_buffer("bias", torch.zeros(rows, dtype=dtype, device=device) if bias else None)

    def _take(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy a dense module's weight and bias."""
        arrays = CSRArrays.from_dense(weight)
        # Tensors of inference mode would not say when they change.
        with torch.inference_mode(False):
            for name in ARRAYS:
                setattr(self, name, getattr(arrays, name).clone())
            self.bias = None if bias is None else bias.detach().clone()
        self._try()

    def _try(self) -> None:
        """Let the backend say at once what it does not compute."""
        if not self.values.is_meta:
            self._multiply(self.values.new_zeros(self._product_arrays().shape[1], 1))

    @property
    def weight(self) -> Tensor:
        """The dense weight, made anew at each access."""
        return self.arrays.to_dense(self._shape)

    @property
    def arrays(self) -> CSRArrays:
        """The weight as CSR ``[out, rest]``, sharing the buffers' memory."""
        shape = self._shape[0], prod(self._shape[1:])
        return CSRArrays(self.values, self.columns, self.row_pointers, shape)

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that are zero."""
        return 1 - len(self.values) / max(1, prod(self._shape))

    @abstractmethod
    def _product_arrays(self) -> CSRArrays:
        """Return the matrix that inputs are multiplied with."""

    def _multiply(self, x: Tensor) -> Tensor:
        """Return the product of the matrix and ``x``, ``[columns, m]``: ``[out, m]``."""
        # nn.Module finds buffers slowly when they are asked for as attributes.
        parts: tuple[Any, ...] = tuple(self._buffers[name] for name in ARRAYS)
        backend, state = find_backend(self.backend), (self.backend, _state(parts))
        if self._matrix is None or self._matrix[0] != state or state[1] is None:
            # Holding the parts keeps their ids from being given to others.
            self._matrix = (state, parts, backend.wrap(self._product_arrays()))
        return backend.multiply(self._matrix[2], x.detach() if x.requires_grad else x)

    def _check(self, x: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"{type(self).__name__} computes no gradients, and its input requires them: call it "
                "under torch.no_grad(), or train the dense model"
            )
        values: Any = self._buffers["values"]
        if x.dtype != values.dtype or x.device != values.device:
            raise TypeError(
                f"input is {x.dtype} on {x.device}, the weight {values.dtype} on {values.device}; "
                "convert one of them"
            )

    def _add_bias(self, out: Tensor) -> Tensor:
        """Add the bias, in place, to ``[batch, out]`` or ``[batch, out, places]``."""
        bias = self._buffers["bias"]
        return out if bias is None else out.add_(bias if out.dim() == 2 else bias[:, None])

    @override
    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._matrix = None  # It would keep the memory of the old buffers.
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_matrix": None}

    @override
    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load any number of non-zero weights, or the dense module's weight."""
        given = dict(state_dict)
        names = {name: f"{prefix}{name}" for name in ARRAYS}
        try:
            if prefix + DENSE in given and not any(name in given for name in names.values()):
                self._check_dense(given[prefix + DENSE])
                arrays = CSRArrays.from_dense(given.pop(prefix + DENSE))
                given |= {name: getattr(arrays, key) for key, name in names.items()}
            if all(name in given for name in names.values()):
                parts = {key: given[name] for key, name in names.items()}
                CSRArrays(**parts, shape=self.arrays.shape).check()
                index = index_dtype(self.arrays.shape[1], len(parts["values"]))
                for key, dtype in (("values", self.values.dtype), ("columns", index)):
                    # For torch loads only what has the same shape.
                    setattr(self, key, getattr(self, key).new_empty(len(parts[key]), dtype=dtype))
                self.row_pointers = self.row_pointers.to(index)
        except (AttributeError, TypeError, ValueError) as error:
            error_msgs.append(f"{prefix.removesuffix('.') or type(self).__name__}: {error}")
            return
        super()._load_from_state_dict(
            given, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _check_dense(self, weight: Tensor) -> None:
        if tuple(weight.shape) != self._shape:
            raise ValueError(f"the dense weight has shape {tuple(weight.shape)}, not {self._shape}")


def _state(parts: tuple[Any, ...]) -> list[tuple[int, int, int]] | None:
    """Return what changes whenever a tensor does, or None if that cannot be told."""
    try:
        # The address as well: assigning to .data makes no new version.
        return [(id(part), part.data_ptr(), part._version) for part in parts]
    except RuntimeError:  # Tensors of inference mode count no changes.
        return None
