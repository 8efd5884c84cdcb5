"""The usual augmentation of CIFAR: a crop of the padded image, and a flip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move every image by up to four pixels each way, zeros coming in, and mirror half of them.

    Args:
        images: ``[n, channels, height, width]``, on any device.
        generator: On the CPU, so that draws are the same on every device.

    Returns:
        A new tensor like it.
    """
    count, channels, height, width = images.shape
    tops, lefts = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.arange(width)
    columns = torch.where(mirrored, columns.flip(0), columns) + lefts
    rows = torch.arange(height) + tops
    padded = F.pad(images, [PADDING] * 4)
    place = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    where = (*place, rows[:, None, :, None], columns[:, None, None, :])
    return padded[tuple(index.to(images.device) for index in where)]
