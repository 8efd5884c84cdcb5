"""What the contract tests share: a run's own gradients replayed on explicit factors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dwf_optim import DWFOptimizer
from tests.helpers import BASES, Base, seeded
from tests.reference.autograd import ExplicitFactors

BY_NAME = {base.name: base for base in BASES}
PENALTY = 1e-3


def build(params: Any, base: Base, **options: Any) -> DWFOptimizer:
    """A `DWFOptimizer` whose factor-space rate is ``lr`` itself, as explicit factors have it."""
    options = {"penalty": PENALTY, "lr_scale": 1.0, "flush": None, **base.options, **options}
    return DWFOptimizer(params, base=base.cls, **options)


class Shadow:
    """Explicit autograd factors and the plain base, fed the gradients that the run itself sees.

    The comparison is then of the optimizer alone, whatever computed the gradients.
    """

    def __init__(self, optimizer: DWFOptimizer, weights: Sequence[Tensor], base: Base, **options: Any):
        self.weights = list(weights)
        self.grads: list[Tensor] = []
        options = {**base.options, **options}
        if base.takes("weight_decay"):
            options["weight_decay"] = 0.0
        factors = [optimizer.factors(w) for w in self.weights]
        self.truth = ExplicitFactors(factors, self._linear, PENALTY, base.cls, **options)

    def _linear(self, weights: Sequence[Tensor]) -> Tensor:
        terms = [(g.to(w.dtype) * w).sum() for g, w in zip(self.grads, weights, strict=True)]
        return torch.stack(terms).sum()

    def step(self, grads: Sequence[Tensor] | None = None) -> None:
        """Step on given gradients, or on those the parameters carry now."""
        self.grads = [w.grad.clone() for w in self.weights] if grads is None else list(grads)
        self.truth.step()

    def check(self, tolerance: float) -> None:
        """The weights agree, relative to their norm."""
        for weight, expected in zip(self.weights, self.truth.weights(), strict=True):
            error = (weight.to(expected.dtype) - expected).norm() / expected.norm()
            assert error <= tolerance, (tuple(weight.shape), float(error))


def rounding(dtype: torch.dtype, steps: int) -> float:
    """What `Shadow` allows: some 30 roundings a step (product, gradients, base) in a stable run."""
    return 30 * steps * torch.finfo(dtype).eps


def through_disk(value: Any, **options: Any) -> Any:
    """Saved and loaded, as a user's checkpoint is."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True, **options)


def matrices(model: nn.Module) -> list[Tensor]:
    """The parameters that are factorized by default."""
    return [p for p in model.parameters() if p.ndim >= 2]


def all_factors(optimizer: DWFOptimizer) -> list[Tensor]:
    """Copies of every factor."""
    return [f.clone() for p in optimizer.factorized() for f in optimizer.factors(p)]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal draws from a generator of their own."""
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)
