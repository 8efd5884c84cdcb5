"""How the extension reads tensors: by torch's C functions, found at run time, or else by attributes."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim.step.native_rules import DTYPES, TYPES

if TYPE_CHECKING:
    from dwf_optim._native import Reader

_GETTERS = ("data_ptr", "dim", "sizes", "strides", "dtype", "device_type", "layout")
_CONSTANTS = ("dtype_float32", "dtype_bfloat16", "dtype_float16", "device_type_cpu", "layout_strided")


@functools.cache
def reader(by_functions: bool = True) -> Reader:
    """Make the extension's reader of tensors; it needs the extension.

    Args:
        by_functions: Whether to use torch's C functions, if they are found and say the same of some
            examples as the tensors' attributes do.
    """
    from dwf_optim import _native  # not there in every installation

    getters, constants = _functions() if by_functions else ([], [])
    example = torch.empty(1)
    found = _native.TorchC(getters, constants, example, example._cdata, example.untyped_storage()._cdata)
    return _native.Reader(TYPES, DTYPES, torch.strided, found, _examples())


def _functions() -> tuple[list[int], list[int]]:
    """Return addresses of torch's C functions, and some of its constants; nothing if one is missing.

    Torch declares them, and promises to keep them, in ``torch/csrc/inductor/aoti_torch/c/shim.h``.
    """
    try:
        library = ctypes.CDLL(torch._C.__file__)  # and what it is linked to
        getters = [getattr(library, f"aoti_torch_get_{name}") for name in _GETTERS]
        constants = [getattr(library, f"aoti_torch_{name}")() for name in _CONSTANTS]
    except (OSError, AttributeError):
        return [], []
    return [ctypes.cast(getter, ctypes.c_void_p).value or 0 for getter in getters], constants


def _examples() -> list[Tensor]:
    values = torch.empty(3, 4, 5)
    views = [values, values[1:, ::2, 3], values.transpose(0, 2), torch.empty(()), torch.empty(0, 2)]
    halves = [values.to(dtype) for dtype in DTYPES]
    return [*views, *halves, *(Parameter(view) for view in views)]
