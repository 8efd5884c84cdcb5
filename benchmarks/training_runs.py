"""Runs of a fixed number of steps that can be stopped, copied and continued."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from benchmarks.data import Split

# Samples that are evaluated at once.
EVALUATED = 1000


class Run:
    """A model, its optimizer, and how far they are in a run with a cosine learning rate.

    Deepcopy makes a branch: both go on with the same batches.

    Args:
        model: Trained in place, with cross-entropy.
        optimizer: Any torch optimizer over its parameters; its rates are the highest of the run.
        steps: Of the whole run.
        batch_size: Samples a step.
        seed: Of the order of the data, and of nothing else.
        clip: Largest norm of the gradient; None lets it be.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        steps: int,
        batch_size: int,
        seed: int,
        clip: float | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.steps, self.batch_size, self.clip = steps, batch_size, clip
        self.done = 0
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.generator = torch.Generator().manual_seed(seed)
        self.batches: list[torch.Tensor] = []

    def train(self, split: Split, until: int, after_step: Callable[[], None] | None = None) -> bool:
        """Take steps up to one of the run's.

        Args:
            split: The training data.
            until: The step to stop after, at most ``steps``.
            after_step: Called after every step.

        Returns:
            Whether the loss stayed finite; training ends where it did not.
        """
        self.model.train()
        while self.done < until:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * self.done / self.steps)) / 2
            batch = self._batch(len(split))
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(split.inputs[batch]), split.targets[batch])
            if not bool(loss.isfinite()):
                return False
            loss.backward()
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.done += 1
            if after_step is not None:
                after_step()
        return True

    def _batch(self, samples: int) -> torch.Tensor:
        if not self.batches:
            order = torch.randperm(samples, generator=self.generator)
            whole = samples - samples % self.batch_size
            self.batches = list(order[:whole].split(self.batch_size))
        return self.batches.pop()


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> dict[str, float]:
    """Measure a network.

    Args:
        model: Logits are ``[samples, classes, ...]``.
        split: Targets are ``[samples, ...]``.

    Returns:
        "accuracy", the part of the targets that are met, and "bits", the mean cross-entropy of base 2.
    """
    model.eval()
    hits, loss = 0, 0.0
    parts = zip(split.inputs.split(EVALUATED), split.targets.split(EVALUATED), strict=True)
    for inputs, targets in parts:
        logits = model(inputs)
        hits += int((logits.argmax(1) == targets).sum())
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
    model.train()
    return {
        "accuracy": hits / split.targets.numel(),
        "bits": loss / split.targets.numel() / math.log(2),
    }
