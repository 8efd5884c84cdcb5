"""Tensors of a graph by name: a model's own, views of these, and further constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from inference.artifact.values import as_dict, as_int, as_str, brief, sizes
from inference.graph import Shape


class Finder:
    """Finds the tensors that a graph in JSON names.

    One that is named twice is one tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._views: dict[Any, Tensor] = {}

    def __call__(self, given: object) -> Tensor:
        """Return a tensor by its name, or the view that is described."""
        if isinstance(given, str):
            if given not in self._tensors:
                raise ValueError(f"there is no tensor {brief(given)}")
            return self._tensors[given]
        data = as_dict(given, "a tensor")
        base = self(as_str(data.get("tensor"), "a view's tensor"))
        shape, stride = (sizes(data.get(key), f"a view's {key}") for key in ("shape", "stride"))
        offset = as_int(data.get("offset"), "a view's offset")
        if len(shape) != len(stride):
            raise ValueError(f"a view has shape {shape} and strides {stride}")
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if 0 in shape or last >= base.numel() or math.prod(shape) > base.numel():
            raise ValueError(f"a view {shape} by {stride} from {offset} leaves its tensor")
        key = (id(base), shape, stride, offset)
        if key not in self._views:
            self._views[key] = base.as_strided(shape, stride, offset)
        return self._views[key]


class Names:
    """Names tensors of a graph by the state_dict's they are or lie in; others become constants."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.constants: dict[str, Tensor] = {}
        self._state = state
        self._by_storage: dict[Any, list[str]] = {}
        self._known: dict[int, tuple[Tensor, Any]] = {}
        for name, tensor in state.items():
            if tensor.numel():
                self._by_storage.setdefault(storage(tensor), []).append(name)

    def __call__(self, tensor: Tensor) -> Any:
        """Return what stands for a tensor in JSON."""
        if id(tensor) not in self._known:
            self._known[id(tensor)] = (tensor, self._name(tensor))
        return self._known[id(tensor)][1]

    def _name(self, tensor: Tensor) -> Any:
        for name in self._by_storage.get(storage(tensor), []) if tensor.numel() else []:
            base = self._state[name]
            if base.dtype != tensor.dtype:
                continue
            if layout(base) == layout(tensor):
                return name
            offset = tensor.storage_offset() - base.storage_offset()
            last = offset + sum(
                (size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)
            )
            if base.is_contiguous() and 0 <= offset <= last < base.numel() >= tensor.numel():
                return {
                    "tensor": name,
                    "shape": list(tensor.shape),
                    "stride": list(tensor.stride()),
                    "offset": offset,
                }
        number = len(self.constants)
        while (name := f"constant.{number}") in self._state or name in self.constants:
            number += 1
        self.constants[name] = tensor
        return name


def storage(tensor: Tensor) -> Any:
    """Return what tells one memory from another."""
    return (tensor.device, tensor.untyped_storage().data_ptr())


def layout(tensor: Tensor) -> tuple[Shape, tuple[int, ...], int]:
    """Return where in its memory a tensor lies."""
    return (tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))
