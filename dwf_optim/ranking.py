"""All that can become zero at once, weights and groups of weights, in order of size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dwf_optim.sharding import whole
from dwf_optim.storage import Storage


def zeros_at(sparsity: float, total: int) -> int:
    """Return how many of ``total`` weights are zero at a sparsity, rounded up.

    A sparsity that was itself computed as a fraction of the total is not to round up by one more: its
    division and the multiplication here are off by an ulp of the total at most.
    """
    return math.ceil(sparsity * total - max(1e-9, 2.0**-52 * total))


class Ranking:
    """Weights, and groups where weights share gates, by their norm; ties by position.

    So every number of weights can be met, to one group.

    Args:
        tensors: The factorized parameters.
        modes: How the factors of each are kept, which says what becomes zero together.
        kept: Masks of what comes last whatever its norm; of whole groups.

    Attributes:
        ordered: The norms, smallest first; on the CPU.
        kept: How many are kept.
    """

    def __init__(
        self, tensors: Sequence[Tensor], modes: Sequence[Storage], kept: Sequence[Tensor]
    ) -> None:
        self._shapes = [tensor.shape for tensor in tensors]
        self._devices = [tensor.device for tensor in tensors]
        self._modes = modes
        keeps = [mode.sizes(keep.float()) > 0 for keep, mode in zip(kept, modes, strict=True)]
        self.kept = sum(int(keep.sum()) for keep in keeps)
        sizes = [
            mode.sizes(whole(tensor.detach())).masked_fill(keep, math.inf)
            for tensor, mode, keep in zip(tensors, modes, keeps, strict=True)
        ]
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

    def count_of(self, sparsity: float) -> int:
        """Return how many of the smallest make up a fraction of all weights, or just more.

        Raises:
            ValueError: If so many may not become zero.
        """
        total, most = self.weights(len(self)), self.weights(len(self) - self.kept)
        wanted = zeros_at(sparsity, total)
        if wanted > most:
            raise ValueError(
                f"sparsity={sparsity} leaves {total - wanted} of {total} weights, and "
                f"min_nonzero_per_unit and min_density keep {total - most}: ask for at most "
                f"{math.floor(1e6 * most / total) / 1e6}, or keep fewer"
            )
        if self._weights is None or not wanted:
            return wanted
        return int(torch.searchsorted(self._weights, wanted)) + 1

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


def at_most(limit: float, tensor: Tensor, mode: Storage) -> Tensor:
    """Return a mask of the weights, or of whole groups, whose norm is at most a limit; of all ranks."""
    return mode.of_each(mode.sizes(whole(tensor.detach())) <= limit, tensor.shape)


def whole_groups(mask: Tensor, mode: Storage) -> Tensor:
    """Extend a mask to all weights of the groups that it touches."""
    return mask if mode.by_element else mode.of_each(mode.sizes(mask.float()) > 0, mask.shape)
