"""Optimizers as frameworks hand them out."""

from __future__ import annotations

from torch.optim import Optimizer

from dwf_optim.optimizer import DWFOptimizer


def unwrap(optimizer: object, kinds: str = "a DWFOptimizer", way_out: str = "") -> DWFOptimizer:
    """Return the `~dwf_optim.DWFOptimizer` itself.

    Args:
        optimizer: One, or Accelerate's or Lightning's wrapper of one.
        kinds: What the caller takes, for the message.
        way_out: What to do instead, for the message.

    Raises:
        TypeError: If it is something else.
    """
    if isinstance(optimizer, Optimizer):
        # Accelerate, and so the Hugging Face Trainer, hands out a wrapper that holds ours, and so does
        # Lightning, whose wrapper passes for one of ours.
        optimizer = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(optimizer, DWFOptimizer):
        raise TypeError(f"optimizer must be {kinds}, got {type(optimizer).__name__}{way_out}")
    return optimizer
