"""The one training loop of the benchmarks, and what they measure of a network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.data import Split

# Multiplies the learning rate, as a function of the part of the run that is over (0 to 1).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def train(
    model: nn.Module,
    optimizer: Optimizer,
    split: Split,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    schedule: str = "constant",
    change: Callable[[Tensor], Tensor] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> bool:
    """Train with cross-entropy.

    Args:
        model: Trained in place.
        optimizer: Any torch optimizer over its parameters.
        split: The training data.
        batch_size: Samples a step; the last step of an epoch takes what is left.
        epochs: Passes through the data.
        seed: Of the order of the data, and of nothing else.
        schedule: A name in `SCHEDULES`, followed step by step.
        change: Maps the inputs of a batch to what the network sees, as augmentation does.
        on_epoch: Called after every epoch with its number from 1 and its mean training loss.

    Returns:
        Whether the loss stayed finite; training ends with the epoch in which it did not.
    """
    shape = SCHEDULES[schedule]
    steps = epochs * math.ceil(len(split) / batch_size)
    scheduler = LambdaLR(optimizer, lambda step: shape(step / steps))
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(split), generator=generator).split(batch_size):
            inputs = split.inputs[batch] if change is None else change(split.inputs[batch])
            loss = F.cross_entropy(model(inputs), split.targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(batch)
        if not math.isfinite(total):
            return False
        if on_epoch is not None:
            on_epoch(epoch, total / len(split))
    return True


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Return the part of the samples that the network classifies as labelled."""
    was_training = model.training
    model.eval()
    hits = int((model(split.inputs).argmax(1) == split.targets).sum())
    model.train(was_training)
    return hits / len(split)


@torch.no_grad()
def weights(model: nn.Module) -> Tensor:
    """Return all entries of the weight matrices, in which zeros are counted; biases stay dense."""
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim >= 2])


def compression(model: nn.Module, threshold: float = 0.0) -> float:
    """Return all weights over those above the threshold in size; inf when there is none."""
    flat = weights(model)
    kept = int((flat.abs() > threshold).sum())
    return flat.numel() / kept if kept else math.inf
