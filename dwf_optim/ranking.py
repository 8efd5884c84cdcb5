"""All that can become zero at once, weights and groups of weights, in order of size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.sharding import whole
from dwf_optim.storage import Storage


class Ranking:
    """Weights, and groups where weights share gates, by their norm; ties by position.

    So every number of weights can be met, to one group.

    Args:
        tensors: The factorized parameters.
        modes: How the factors of each are kept, which says what becomes zero together.

    Attributes:
        ordered: The norms, smallest first; on the CPU.
    """

    def __init__(self, tensors: Sequence[Tensor], modes: Sequence[Storage]) -> None:
        self._shapes = [tensor.shape for tensor in tensors]
        self._devices = [tensor.device for tensor in tensors]
        self._modes = modes
        sizes = [sizes_of(tensor, mode) for tensor, mode in zip(tensors, modes, strict=True)]
        self._of_sizes = [size.shape for size in sizes]
        self.ordered, order = torch.cat([size.flatten().cpu() for size in sizes]).sort(stable=True)
        self._ranks = torch.empty_like(order)
        self._ranks[order] = torch.arange(len(order))
        # How many weights the smallest have, summed up; None where each is one.
        self._weights: Tensor | None = None
        if not all(mode.by_element for mode in modes):
            pairs = zip(tensors, sizes, strict=True)
            counts = [torch.full((s.numel(),), t.numel() // max(1, s.numel())) for t, s in pairs]
            self._weights = torch.cat(counts)[order].cumsum(0)

    def __len__(self) -> int:
        return len(self.ordered)

    def zeros(self) -> int:
        """Count what is zero already."""
        return int((self.ordered == 0).sum())

    def least(self, weights: int) -> int:
        """Return how many of the smallest make up a number of weights, or a little more."""
        if self._weights is None or not weights:
            return weights
        return int(torch.searchsorted(self._weights, weights)) + 1

    def weights(self, count: int) -> int:
        """Return how many weights the ``count`` smallest have."""
        if self._weights is None or not count:
            return count
        return int(self._weights[count - 1])

    def smallest(self, count: int) -> tuple[list[Tensor], float]:
        """Return masks of the ``count`` smallest, and the norm of the largest of them."""
        flat = (self._ranks < count).split([shape.numel() for shape in self._of_sizes])
        parts = zip(flat, self._of_sizes, self._shapes, self._devices, self._modes, strict=True)
        masks = [
            mode.of_each(mask.view(of_sizes), shape).to(device)
            for mask, of_sizes, shape, device, mode in parts
        ]
        return masks, float(self.ordered[count - 1]) if count else 0.0


def sizes_of(tensor: Tensor, mode: Storage) -> Tensor:
    """Return the norms of what becomes zero at once in a parameter, from all ranks."""
    return mode.sizes(whole(tensor.detach()))
