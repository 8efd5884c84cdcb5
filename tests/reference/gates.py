"""Slow, obvious truth of weights that share gates: gates are vectors, everything by autograd.

Nothing here imports dwf_optim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

Loss = Callable[[Sequence[Tensor]], Tensor]


class Case(NamedTuple):
    """A structure, a tensor that has it, and what it means for a vector of numbers, one a group.

    Attributes:
        structure: As the optimizer is told.
        shape: Of the tensor.
        groups: How many groups it has.
        spread: From one number a group to one that each element is multiplied by.
    """

    structure: Any
    shape: tuple[int, ...]
    groups: int
    spread: Callable[[Tensor], Tensor]

    @property
    def size(self) -> int:
        """Elements of a group."""
        return math.prod(self.shape) // self.groups

    def members(self, group: int) -> Tensor:
        """Return a mask of the elements of one group."""
        one = torch.zeros(self.groups)
        one[group] = 1
        return self.spread(one).expand(self.shape) > 0

    def norms(self, weight: Tensor) -> Tensor:
        """Return the norm of each group, one after the other."""
        return torch.stack([weight[self.members(j)].norm() for j in range(self.groups)])


CASES = [
    Case("filter", (4, 2, 3, 3), 4, lambda g: g[:, None, None, None]),
    Case("neuron", (6, 5), 6, lambda g: g[:, None]),
    Case("input", (5, 6), 6, lambda g: g[None, :]),
    Case("input", (3, 4, 2, 2), 4, lambda g: g[None, :, None, None]),
    Case(("head", 3), (6, 4), 3, lambda g: g.repeat_interleave(2)[:, None]),
    Case(("qkv_head", 2), (12, 4), 2, lambda g: g.repeat_interleave(2).repeat(3)[:, None]),
    Case((0, 2), (3, 4, 2), 6, lambda g: g.view(3, 1, 2)),
    Case((), (3, 4), 1, lambda g: g.view(1, 1)),
]


class ExplicitGates:
    """A run in which the full factors and the gates are the parameters."""

    def __init__(
        self,
        cases: Sequence[Case],
        weights: Sequence[Tensor],
        loss: Loss,
        penalties: Sequence[float],
        depth: int,
        base: type[Optimizer],
        **options: Any,
    ) -> None:
        self.cases, self.loss, self.penalties = cases, loss, penalties
        sign = -1 if options.get("maximize") else 1
        self.penalties = [sign * penalty for penalty in penalties]
        self.omegas = [w.detach().clone().requires_grad_() for w in weights]
        self.gates = [
            [torch.ones(case.groups, dtype=w.dtype, requires_grad=True) for _ in range(depth - 1)]
            for case, w in zip(cases, weights, strict=True)
        ]
        leaves = [[omega, *gates] for omega, gates in zip(self.omegas, self.gates, strict=True)]
        self.leaves = leaves
        self.optimizer = base([leaf for some in leaves for leaf in some], **options)

    def weights(self) -> list[Tensor]:
        """The collapsed weights as they now stand."""
        collapsed = []
        for case, omega, gates in zip(self.cases, self.omegas, self.gates, strict=True):
            weight = omega
            for gate in gates:
                weight = weight * case.spread(gate)
            collapsed.append(weight)
        return collapsed

    def step(self) -> None:
        """One step of the base on the penalized objective."""
        self.optimizer.zero_grad()
        objective = self.loss(self.weights())
        for penalty, some in zip(self.penalties, self.leaves, strict=True):
            objective = objective + penalty / len(some) * sum((leaf**2).sum() for leaf in some)
        objective.backward()
        self.optimizer.step()
