"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

# Frames of ours and of torch lie between a warning and the line that caused it, in numbers that depend
# on decorators and hooks. (Python 3.12 has skip_file_prefixes for this.)
_SKIPPED = ("dwf_optim", "torch", "contextlib")


def warn(message: str) -> None:
    """Warn as if from the first line outside this package and torch.

    Args:
        message: What is wrong and what to do.
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_skipped(str(frame.f_globals.get("__name__", ""))):
        frame = frame.f_back
        level += 1
    warnings.warn(message, stacklevel=level)


def _is_skipped(module: str) -> bool:
    return module.partition(".")[0] in _SKIPPED
