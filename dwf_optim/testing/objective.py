r"""Small objectives with data, made from three numbers, so that a counter-example can be made again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["quadratic", "logistic", "huber", "mlp"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CONVEX: tuple[Kind, ...] = ("quadratic", "logistic", "huber")

_HIDDEN = 2


@dataclass(frozen=True)
class Objective:
    r"""A smooth loss of one weight vector, the mean over a few rows of random data.

    With rows :math:`x_i` and targets :math:`y_i`:

    - "quadratic": :math:`\tfrac12 (x_i^T w - y_i)^2`
    - "logistic": :math:`\ln(1 + e^{-y_i x_i^T w})`, with labels of both signs
    - "huber": :math:`\tfrac12 r^2` where :math:`|r| \le 1`, else :math:`|r| - \tfrac12`, with
      :math:`r = x_i^T w - y_i`
    - "mlp": :math:`\tfrac12 (v^T \tanh(U x_i) - y_i)^2` with two hidden units; not convex

    Attributes:
        kind: One of these.
        features: Length of a row, >= 1.
        seed: Of the data: standard normal rows; targets that a sparse weight makes, and noise.
    """

    kind: Kind
    features: int
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {self.kind!r}")
        if self.features < 1:
            raise ValueError(f"features must be >= 1, got {self.features}")

    @property
    def size(self) -> int:
        """How many elements the weight has, ``features``, or ``2 (features + 1)`` of "mlp"."""
        return _HIDDEN * (self.features + 1) if self.kind == "mlp" else self.features

    @property
    def convex(self) -> bool:
        """Whether the loss is convex in the weight."""
        return self.kind in CONVEX

    def data(self) -> tuple[Tensor, Tensor]:
        """Return rows ``(2 features + 2, features)`` and targets, in float64; not to be written to."""
        return _data(self.kind, self.features, self.seed)

    def __call__(self, weight: Tensor) -> Tensor:
        """Evaluate the loss, differentiably.

        Args:
            weight: ``size`` elements in any shape; the data is cast to its dtype.

        Returns:
            A 0-d tensor.
        """
        weight = weight.flatten()
        rows, targets = (part.to(weight.dtype) for part in self.data())
        if self.kind == "mlp":
            inner, outer = weight[:-_HIDDEN].view(_HIDDEN, self.features), weight[-_HIDDEN:]
            return (torch.tanh(rows @ inner.T) @ outer - targets).square().mean() / 2
        prediction = rows @ weight
        if self.kind == "logistic":
            return F.softplus(-targets * prediction).mean()
        if self.kind == "huber":
            return F.huber_loss(prediction, targets)
        return (prediction - targets).square().mean() / 2

    def gradient(self, weight: Tensor) -> Tensor:
        """Differentiate the loss by the weight; same shape and dtype."""
        leaf = weight.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self(leaf), leaf)
        return gradient

    def curvature(self) -> float:
        r"""Bound the largest second derivative in any direction, anywhere.

        For n rows X it is :math:`\|X\|_2^2 / n`, and a quarter of that for "logistic", whose
        :math:`\sigma' \le 1/4`.

        Returns:
            The bound.

        Raises:
            ValueError: For "mlp", which has none.
        """
        if not self.convex:
            raise ValueError(
                f"the second derivatives of {self.kind!r} have no bound; take a convex kind"
            )
        rows, _ = self.data()
        largest = float(torch.linalg.matrix_norm(rows, ord=2)) ** 2 / len(rows)
        return largest / 4 if self.kind == "logistic" else largest


@functools.lru_cache(maxsize=256)
def _data(kind: Kind, features: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows = normal(2 * features + 2, features)
    weight = normal(features) * (torch.rand(features, generator=generator) < 0.5)
    targets = rows @ weight + 0.3 * normal(len(rows))
    # A row of either label, so that no weight separates them all by an infinite margin.
    return rows, torch.where(
        targets > targets.median(), 1.0, -1.0
    ).double() if kind == "logistic" else targets
