"""One short training run of a range test, and what is measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dwf_optim.factorization import INITIAL_PENALTY
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.recommend.batches import Batches
from dwf_optim.recommend.restore import Snapshot
from dwf_optim.sharding import whole

# Part of a trial in which the rate rises to its full height.
RISE = 0.25
# Part of a trial over which a loss is averaged.
WINDOW = 0.2


@dataclass(frozen=True)
class Trial:
    """A short run at one rate and penalty, from the model as it was given.

    Attributes:
        lr: Its rate, after the rise.
        penalty: ``lambda``.
        planned: How many steps it was to take.
        losses: Of every step; it ends at the first that is not finite.
        travelled: Sum of the rates, as the user gives them.
        start: ``|w|`` at the target's rank in the order of magnitudes, before.
        end: The same after; nan after a loss that is not finite.
    """

    lr: float
    penalty: float
    planned: int
    losses: tuple[float, ...] = field(repr=False)
    travelled: float
    start: float
    end: float

    def loss_at(self, part: float) -> float:
        """Return the mean loss of the steps that end at a part of the trial; nan if it ended before."""
        if len(self.losses) < self.planned or not math.isfinite(self.losses[-1]):
            return math.nan
        width = max(1, round(WINDOW * self.planned))
        last = max(width, round(part * self.planned))
        return math.fsum(self.losses[last - width : last]) / width

    @property
    def loss(self) -> float:
        """Mean loss at the end."""
        return self.loss_at(1.0)

    @property
    def failed(self) -> bool:
        """Whether the loss became non-finite, or ended above where it began."""
        return not self.loss < self.losses[0]


@dataclass
class Trials:
    """Makes trials, each from the same model, random streams and, where that can be, batches.

    Attributes:
        make: Builds the optimizer for a rate; its groups' penalties say the ratio only.
        model: The model.
        loss: From model and batch to a scalar loss.
        batches: What it is trained on.
        snapshot: Taken before the first.
        rank: Of the weight whose magnitude is followed, from 1, among those that have factors.
        done: All trials so far.
    """

    make: Callable[[float], DWFOptimizer]
    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    batches: Batches
    snapshot: Snapshot
    rank: int
    done: list[Trial] = field(default_factory=list)

    def run(self, lr: float, penalty: float, steps: int) -> Trial:
        """Train for some steps.

        Args:
            lr: Reached after the rise.
            penalty: Mean over all weights that have factors.
            steps: At most; fewer if the loss becomes non-finite.

        Returns:
            The trial. The model is left as it ends; the snapshot is gone back to at the next.

        Raises:
            TypeError: If the loss is no scalar tensor.
            ValueError: If the loss is not finite before the first step, or batches run out.
        """
        self.snapshot.restore()
        self.batches.restart()
        for p in self.model.parameters():
            p.grad = None
        if not self.model.training:
            self.model.train()
        optimizer = self.make(lr)
        set_penalty(optimizer, penalty)
        start, losses, travelled = self._magnitude(optimizer), [], 0.0
        for step in range(steps):
            rate = lr * min(1.0, (step + 1) / (RISE * steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss = scalar(self.loss(self.model, self.batches.take()))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            loss.backward()
            optimizer.step()
            travelled += rate
        if not math.isfinite(losses[0]):
            raise ValueError(
                f"the loss is {losses[0]} before any step: look at the model's weights and the batches"
            )
        trial = Trial(lr, penalty, steps, tuple(losses), travelled, start, self._magnitude(optimizer))
        self.done.append(trial)
        return trial

    @torch.no_grad()
    def _magnitude(self, optimizer: DWFOptimizer) -> float:
        flat = torch.cat([whole(p.detach()).abs().flatten().float() for p in optimizer.factorized()])
        # Sorting puts NaN last; a diverged trial has nothing to say.
        return float(flat.kthvalue(self.rank).values) if bool(flat.isfinite().all()) else math.nan


def scalar(loss: object) -> Tensor:
    """Check what a loss function returned.

    Raises:
        TypeError: If it is no tensor of one element.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"the loss must be a tensor of one element, got {what}; average it")
    return loss


def factorized_sizes(optimizer: DWFOptimizer) -> list[int]:
    """Return how many weights of each group have factors."""
    held = {id(p) for p in optimizer.factorized()}
    return [sum(p.numel() for p in group["params"] if id(p) in held) for group in optimizer.param_groups]


def set_penalty(optimizer: DWFOptimizer, penalty: float) -> None:
    """Set the groups' penalties in the ratio that they have.

    Args:
        optimizer: Its groups are changed.
        penalty: Their mean, each group counted by its weights that have factors.
    """
    sizes = factorized_sizes(optimizer)
    groups = [g for g, size in zip(optimizer.param_groups, sizes, strict=True) if size]
    total = mean_penalty(optimizer, sizes)
    for group in groups:
        # A trial without penalty is to take the same steps as those with one.
        group.setdefault(INITIAL_PENALTY, group["penalty"])
        group["penalty"] = penalty * group["penalty"] / total if total else penalty


def mean_penalty(optimizer: DWFOptimizer, sizes: Sequence[int]) -> float:
    """Return the mean of the groups' penalties, each counted by its size."""
    penalties = (float(group["penalty"]) for group in optimizer.param_groups)
    return math.fsum(p * n for p, n in zip(penalties, sizes, strict=True)) / max(1, sum(sizes))
