"""A small problem on which all of this is tried: scikit-learn's digits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from dwf_optim import DWFOptimizer


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    inputs, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(inputs).float()
    return (pixels - pixels.mean()) / pixels.std(), torch.from_numpy(labels)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))


def optimizer_of(model: nn.Module, *, named: bool = False, **options: object) -> DWFOptimizer:
    parameters = model.named_parameters() if named else model.parameters()
    return DWFOptimizer(parameters, **{"lr": 0.03, "momentum": 0.9, "penalty": 1e-5, **options})


def train(
    model: nn.Module,
    optimizer: DWFOptimizer,
    steps: int,
    *,
    first: int = 0,
    total: int | None = None,
    after_step: Callable[[float], None] = lambda loss: None,
) -> None:
    """Take steps ``first`` to ``steps`` of a run of ``total``; cosine rate, the same batches always."""
    inputs, labels = digits()
    total = steps if total is None else total
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 + math.cos(math.pi * step / total)) / 2
        rows = torch.randint(len(inputs), (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        after_step(loss.item())


def nonzero(optimizer: DWFOptimizer, threshold: float = 0.0) -> int:
    return sum(int((p.detach().abs() > threshold).sum()) for p in optimizer.factorized())


def weights(optimizer: DWFOptimizer) -> int:
    return sum(p.numel() for p in optimizer.factorized())


def accuracy(model: nn.Module) -> float:
    inputs, labels = digits()
    with torch.no_grad():
        return float((model(inputs).argmax(1) == labels).float().mean())
