"""Zeros that differ from side to side, as equal ones and taps of zero in the kernel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from inference.graph import Pair


def symmetric_padding(
    weight: Tensor, dilation: Pair, before: Pair, after: Pair
) -> tuple[Tensor, Pair] | None:
    """Make a convolution's padding the same on both sides.

    With p the larger of both paddings, p - before taps are added in front of the kernel and p - after
    behind it: every output sees the same inputs, at any stride, and the size of the output stays.

    Args:
        weight: ``[out, in / groups, kernel height, kernel width]``.
        dilation: Rows, columns.
        before: Zeros above and on the left.
        after: Zeros below and on the right.

    Returns:
        The weight, with taps of zero where they are needed, and the padding; None where dilation would
        pull the taps apart.
    """
    padding = (max(before[0], after[0]), max(before[1], after[1]))
    if any(before[i] != after[i] and dilation[i] != 1 for i in (0, 1)):
        return None
    if before == after:
        return weight, padding
    rows = (padding[0] - before[0], padding[0] - after[0])
    columns = (padding[1] - before[1], padding[1] - after[1])
    return F.pad(weight, (*columns, *rows)), padding
