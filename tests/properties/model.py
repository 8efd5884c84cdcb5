"""What `DWFOptimizer` must do, said without it: explicit factors, autograd and the plain base optimizer.

Nothing here imports dwf_optim. Every factor is a leaf with one more dimension in front: row 0 is the
reference, the others are the same run with relative errors of `NOISE` thrown in wherever arithmetic
rounds. How far they stray from row 0 says how strongly this very run amplifies rounding, so the
tolerance is derived, however stiff the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tests.reference.autograd import factor_penalty, multiply

EPS = 2.0**-53  # the largest relative error of one float64 operation
NOISE = 2.0**-30  # the errors of the strayed rows; small enough for their effect to stay linear
ROWS = 5  # four of them strayed: that all four miss a direction in which errors grow is unlikely
# Roundings of a step (gradient, penalty, base, product) that the optimizer may do and the reference not,
# times what four random draws may underestimate. The largest seen in 500 runs was 1.2.
ROUNDINGS = 16

Objective = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Weight:
    """One parameter: its factors, the gradient it was given, and what was written to it from outside.

    Attributes:
        depth: Number of factors; 1 for a tensor that the base steps as it is.
        penalized: Whether the group's penalty acts on it.
        leaves: The factors, or none before the first step that has a gradient.
        upstream: Gradient of the objective by the weight, as `.grad` holds it.
        written: Where the outside wrote since the factors last agreed with the weight.
        value: What it wrote there.
    """

    depth: int
    penalized: bool
    leaves: list[Tensor] = field(default_factory=list)
    upstream: Tensor | None = None
    written: Tensor | None = None
    value: Tensor | None = None
    events: int = 0

    def seen(self) -> Tensor:
        """The weight in all rows, as the model sees it."""
        product = multiply(self.leaves).detach()
        if self.written is None or self.value is None:
            return product
        return torch.where(self.written, self.value, product)

    def tolerance(self, rows: Tensor) -> Tensor:
        """How far the optimizer may be from row 0 of a tensor that this weight's history led to."""
        strayed = (rows[1:] - rows[0]).abs().amax(0)
        return ROUNDINGS * (EPS / NOISE * strayed + (self.events + 1) * EPS * rows[0].abs())


class Group:
    """A parameter group: the plain base on the factors of its weights.

    Args:
        base: The base optimizer's class.
        options: Its options. A weight decay acts on tensors without factors only.
        penalty: ``lambda``.
        weights: The group's.
    """

    def __init__(
        self, base: type[Optimizer], options: dict[str, Any], penalty: float, weights: list[Weight]
    ) -> None:
        self.penalty = penalty
        self.weights = weights
        # A maximizing base climbs, so what it climbs is the objective less the penalty.
        self.sign = -1 if options.get("maximize") else 1
        self.optimizer = base([{"params": []}, {"params": []}], **options)
        self.split, self.whole = self.optimizer.param_groups
        if "weight_decay" in self.split:
            self.split["weight_decay"] = 0.0

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self) -> None:
        """One step of the base on <gradient, weight> + penalty, where there is a gradient."""
        for weight in self.weights:
            for leaf in weight.leaves:
                leaf.grad = None
            if weight.upstream is None:
                continue
            penalty = self.sign * self.penalty if weight.penalized else 0.0
            objective = (weight.upstream * multiply(weight.leaves)).sum()
            (objective + penalty * factor_penalty(weight.leaves)).backward()
            weight.events += 1
        self.optimizer.step()


class Reference:
    """The whole run.

    Args:
        seed: Of the strayed rows.
    """

    def __init__(self, seed: int) -> None:
        self.groups: list[Group] = []
        self.generator = torch.Generator().manual_seed(seed)

    def weights(self) -> list[Weight]:
        return [weight for group in self.groups for weight in group.weights]

    def group_of(self, weight: Weight) -> Group:
        return next(group for group in self.groups if weight in group.weights)

    def state_of(self, weight: Weight) -> list[dict[str, Any]]:
        """What the base keeps for each factor."""
        optimizer = self.group_of(weight).optimizer
        return [optimizer.state.get(leaf, {}) for leaf in weight.leaves]

    def start(self, weight: Weight, factors: list[Tensor]) -> None:
        """Take the factors that an initialization drew."""
        rows = [f.detach().expand(ROWS, *f.shape).clone() for f in factors]
        weight.leaves = [row.requires_grad_() for row in rows]
        group = self.group_of(weight)
        (group.split if weight.depth > 1 else group.whole)["params"] += weight.leaves
        self._stray(weight)

    def backward(self, weight: Weight, before: Tensor, objective: Objective) -> None:
        """Add to the gradient. `before` stands for a weight that has no factors yet."""
        rows = weight.seen() if weight.leaves else before.detach().expand(ROWS, *before.shape)
        leaf = rows.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        # The objective's own terms are of size 1 and may cancel: an error is relative to 1, too.
        gradient[1:] += self._noise(gradient[1:]) * (1 + gradient[1:].abs())
        weight.upstream = gradient if weight.upstream is None else weight.upstream + gradient

    def step(self) -> None:
        for weight in self.weights():
            if weight.upstream is not None:
                self.settle(weight)
        for group in self.groups:
            group.step()
        for weight in self.weights():
            self._stray(weight)

    @torch.no_grad()
    def write(self, weight: Weight, changed: Tensor, value: Tensor) -> None:
        """The outside writes; factors follow when the optimizer next looks, other tensors at once."""
        if not weight.leaves:
            return
        if weight.written is not None and weight.value is not None:
            value = torch.where(changed, value, weight.value)
            changed = changed | weight.written
        weight.written, weight.value = changed, value.clone()
        if weight.depth == 1:
            weight.leaves[0].copy_(weight.seen())
            weight.written = weight.value = None

    @torch.no_grad()
    def settle(self, weight: Weight) -> None:
        """Re-factorize what was written: ratios and signs stay, the last factor solves the product."""
        if weight.written is None or weight.value is None:
            return
        value, depth = weight.value.expand(weight.leaves[0].shape), weight.depth
        old = multiply(weight.leaves)
        changed = weight.written & (value != old)
        alive = old != 0
        scale = (value.abs() / torch.where(alive, old.abs(), 1.0)) ** (1 / depth)
        new = [torch.where(alive, leaf, 1.0) * scale for leaf in weight.leaves[:-1]]
        new.append(torch.where(value == 0, 0.0, value / multiply(new)))
        for leaf, factor in zip(weight.leaves, new, strict=True):
            leaf.copy_(torch.where(changed, factor, leaf))
        self._clear_state(weight, changed & (value == 0))
        weight.written = weight.value = None
        weight.events += 1
        self._stray(weight)

    @torch.no_grad()
    def zero(self, weight: Weight, mask: Tensor) -> None:
        """Weight, factors and base state become zero."""
        self.settle(weight)
        for leaf in weight.leaves:
            leaf.masked_fill_(mask, 0)
        if weight.leaves:
            self._clear_state(weight, mask.expand(weight.leaves[0].shape))

    def _clear_state(self, weight: Weight, mask: Tensor) -> None:
        for state in self.state_of(weight):
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    value.masked_fill_(mask, 0)

    @torch.no_grad()
    def _stray(self, weight: Weight) -> None:
        for leaf in weight.leaves:
            leaf[1:] *= 1 + self._noise(leaf[1:])

    def _noise(self, like: Tensor) -> Tensor:
        return NOISE * (2 * torch.rand(like.shape, generator=self.generator, dtype=like.dtype) - 1)
