"""What callers give and get: NumPy arrays or tensors, and the numbers of a call, checked."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.graph import Shape

INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")


def check_threads(threads: object) -> None:
    """Raise ValueError unless so many threads can work on one call."""
    if not _is_count(threads):
        raise ValueError(f"threads must be an integer of at least 1, got {threads!r}")


def check_batch_sizes(sizes: object) -> None:
    """Raise ValueError unless a plan can be made for these."""
    if not isinstance(sizes, Iterable) or not (found := list(sizes)) or not all(map(_is_count, found)):
        raise ValueError(f"batch_sizes must be integers of 1 and more, as (1, 64), got {sizes!r}")


def _is_count(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= 1


def to_tensor(x: object, shape: Shape | None, name: str, in_float32: bool = True) -> Tensor:
    """Return an argument as a contiguous tensor; its own memory if it can be.

    Args:
        x: NumPy array or CPU tensor.
        shape: Without the batch; None for any.
        name: For messages.
        in_float32: Whether it must be; else it must be of integers or truth values.

    Raises:
        TypeError: If it is something else, or of a dtype that the model does not take.
        ValueError: If it has another shape, or is on another device.
    """
    if not isinstance(x, np.ndarray | Tensor):
        raise TypeError(f"{name} must be a NumPy array or a tensor, got {type(x).__name__}")
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype != "float32" if in_float32 else dtype not in INTEGERS:
        wanted = "float32" if in_float32 else "integers"
        raise TypeError(f"{name} has dtype {dtype}, the compiled model takes {wanted}; convert it first")
    if shape is not None and (x.ndim == 0 or tuple(x.shape[1:]) != shape):
        wanted = ", ".join(map(str, ("batch", *shape)))
        raise ValueError(f"{name} must have shape [{wanted}], got {list(x.shape)}")
    if isinstance(x, Tensor):
        if x.device.type != "cpu":
            raise ValueError(f"{name} is on {x.device}; the compiled model runs on the CPU: use .cpu()")
        return x.detach().contiguous()
    # torch warns of arrays that it could write to against their will.
    return torch.from_numpy(np.require(x, None, ["C", "A"]) if x.flags.writeable else x.copy("C"))


def check_out(out: object, like: object, shape: Shape, outputs: int) -> None:
    """Check an array for results.

    Args:
        out: The array.
        like: An input, of whose kind it must be.
        shape: Of the output, with the batch.
        outputs: How many the model has.

    Raises:
        TypeError: If it is of another kind or dtype.
        ValueError: If it has another shape, is not contiguous or cannot be written, or if the model
            has several outputs.
    """
    if outputs != 1:
        raise ValueError(f"out= is for models with one output, this one has {outputs}")
    if not isinstance(out, np.ndarray | Tensor) or isinstance(out, Tensor) != isinstance(like, Tensor):
        raise TypeError(
            f"out must be a {type(like).__name__}, as the input is, got {type(out).__name__}"
        )
    if str(out.dtype).removeprefix("torch.") != "float32":
        raise TypeError(f"out must be of float32, got {out.dtype}")
    if tuple(out.shape) != shape:
        raise ValueError(f"out must have shape {list(shape)}, got {list(out.shape)}")
    whole = out.is_contiguous() if isinstance(out, Tensor) else out.flags.c_contiguous
    if not whole or (isinstance(out, np.ndarray) and not (out.flags.writeable and out.flags.aligned)):
        raise ValueError("out must be contiguous, aligned and writeable")


def unlike(result: Tensor, like: object) -> Any:
    """Return a result as the kind of array that an input is."""
    return result if isinstance(like, Tensor) else result.numpy()
