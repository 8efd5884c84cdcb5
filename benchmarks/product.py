"""What a user of `torch.nn.utils.parametrize` would write: the baseline of the step's benchmarks."""

from __future__ import annotations

from torch import Tensor, nn


class Product(nn.Module):
    """The factorization as a user would write it for `torch.nn.utils.parametrize`."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, *factors: Tensor) -> Tensor:
        """Multiply the factors."""
        weight = factors[0]
        for factor in factors[1:]:
            weight = weight * factor
        return weight

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Start balanced."""
        root = weight.abs().pow(1 / self.depth)
        return (weight.sign() * root, *(root.clone() for _ in range(self.depth - 1)))
