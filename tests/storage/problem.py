"""A problem on which roots cross zero, and its explicit factors stepped by autograd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import Base, seeded
from tests.reference.autograd import ExplicitFactors

PENALTY = 0.01
# A weight's gradient vanishes near zero, so plain gradient descent only creeps up to it. Now and then a
# push towards zero makes it jump across.
PUSH = 40.0
PUSHES = 10


# Rates at which roots of every depth cross zero within 50 steps, and none runs away.
RATES = {
    "SGD": 0.05,
    "SGD-momentum": 0.005,
    "SGD-nesterov": 0.005,
    "SGD-dampening": 0.01,
    "Adadelta": 30.0,
    "ASGD": 0.05,
    "Adagrad": 0.2,
    "Rprop": 0.01,
    "RMSprop": 0.01,
    "RAdam": 1.0,
    "RMSprop-centered": 0.02,
}
OTHERS = 0.1


class Pull:
    """Weights are drawn to targets, half of which lie on the other side of zero."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = seeded(11)

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64)

        def signs(*shape: int) -> Tensor:
            return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1

        def pair(*shape: int) -> tuple[Tensor, Tensor]:
            size = 10 ** (-2.5 * draw(*shape))
            sign = signs(*shape)
            return (size * sign).to(dtype), (draw(*shape) * signs(*shape)).to(dtype)

        shapes = [(6, 5), (3, 6), (4, 2, 2, 2), ()]
        starts, self.targets = zip(*(pair(*shape) for shape in shapes), strict=True)
        self.weights = [
            Parameter(starts[0]),
            Parameter(starts[1].t().contiguous().t()),
            Parameter(starts[2].contiguous(memory_format=torch.channels_last)),
            Parameter(starts[3]),
        ]
        self.time = 0

    def loss(self, weights: Sequence[Tensor]) -> Tensor:
        """Half the squared distance to the targets, and now and then a push."""
        push = PUSH if self.time % PUSHES == PUSHES - 1 else 0.0
        pulls = [((w - t) ** 2).sum() / 2 for w, t in zip(weights, self.targets, strict=True)]
        pushes = [push * w.abs().sum() for w in weights]
        return torch.stack([*pulls, *pushes]).sum()


@contextmanager
def even_depths_allowed() -> Iterator[None]:
    """Balanced factors of even depth warn of the sign that they keep."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="init='balanced' with even depth")
        yield


def options_of(base: Base) -> dict[str, Any]:
    """The base's options, at the rate of this problem."""
    options = {**base.options, "lr": RATES.get(base.name, OTHERS)}
    return {**options, "weight_decay": 0.0} if base.takes("weight_decay") else options


def make(problem: Pull, base: Base, depth: int, storage: str, **more: Any) -> DWFOptimizer:
    """Factorize everything."""
    ours = {"lr_scale": 1.0, "flush": None, "min_ndim": 0, "penalty": PENALTY}
    options = {**options_of(base), **ours, **more}
    with even_depths_allowed():
        return DWFOptimizer(
            problem.weights, base=base.cls, depth=depth, storage=storage, init="balanced", **options
        )


def explicit(problem: Pull, optimizer: DWFOptimizer, base: Base, **more: Any) -> ExplicitFactors:
    """The same start as balanced factors, which are leaves of autograd."""
    factors = [optimizer.factors(w) for w in problem.weights]
    return ExplicitFactors(factors, problem.loss, PENALTY, base.cls, **options_of(base), **more)
