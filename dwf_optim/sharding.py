"""Sharded parameters (DTensors: FSDP2, tensor parallelism): a rank's part, and what only all ranks know.

Bases act element by element, and factors and base state are cut like their weight. So a step works on
this rank's parts alone; ranks talk to each other only when factors are made.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: object) -> TypeGuard[DTensor]:
    """Say whether a tensor is a DTensor."""
    # Importing it takes long, and where nobody has, there is none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor, sharing its memory; all of it if it is not sharded."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()


def whole(tensor: Tensor) -> Tensor:
    """Return a sharded tensor's elements from all ranks, which must all call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def place(part: Tensor, like: Tensor, shape: torch.Size | None = None) -> Tensor:
    """Make this rank's part into a tensor that is sharded like another.

    Args:
        part: Of the shape of ``local(like)``, or of this rank's part of ``shape``.
        like: Any tensor.
        shape: Of the whole; that of ``like`` if None. Of its size in the dimensions that are cut.

    Returns:
        A tensor of that shape over the memory of ``part``.
    """
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    mesh, placements = like.device_mesh, like.placements
    stride = like.stride()
    if shape is None:
        shape = like.shape
    elif shape != like.shape:
        stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=shape, stride=stride)


def cut(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a tensor that is to be sharded like another.

    Args:
        tensor: Of the shape of ``like``: whole and the same on every rank, or sharded in any way.
        like: Any tensor.

    Returns:
        A tensor of the shape of ``local(like)``.
    """
    if not is_sharded(like):
        return whole(tensor)
    if is_sharded(tensor):
        if tensor.placements != like.placements:
            tensor = tensor.redistribute(placements=like.placements)
        return local(tensor)
    from torch.distributed.tensor import distribute_tensor

    # Without a source rank everyone cuts what it has, and nothing is sent.
    return local(
        distribute_tensor(tensor.detach(), like.device_mesh, like.placements, src_data_rank=None)
    )


def local_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return optimizer state with this rank's part of every tensor, sharing their memory."""
    return {key: local(value) if isinstance(value, Tensor) else value for key, value in state.items()}


def place_state(after: dict[str, Any], before: dict[str, Any], like: Tensor) -> dict[str, Any]:
    """Undo `local_state` after a step.

    Args:
        after: State of this rank's part of a weight.
        before: The state it was taken from; a tensor that is still the same comes back from here.
        like: The weight.

    Returns:
        ``after`` with every elementwise tensor sharded like the weight.
    """
    if not is_sharded(like):
        return after
    shape = local(like).shape
    placed: dict[str, Any] = {}
    for key, value in after.items():
        held = before.get(key)
        if is_sharded(held) and local(held) is value:
            placed[key] = held
        elif isinstance(value, Tensor) and value.shape == shape and not is_sharded(value):
            placed[key] = place(value, like)
        else:
            placed[key] = value
    return placed
