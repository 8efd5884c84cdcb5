"""What the framework tests share: one task, two recipes, and the plain torch loop each must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from dwf_optim import DWFOptimizer
from tests.helpers import assert_same_state, identical, seeded, snapshot

EPOCHS = 3
BATCHES = 6
BATCH = 16
STEPS = EPOCHS * BATCHES
SPARSITY = 0.7

Batch = tuple[Tensor, Tensor]


class Recipe(NamedTuple):
    """An optimizer and a schedule."""

    name: str
    options: dict[str, Any]
    schedule: Callable[[DWFOptimizer, int], LRScheduler]

    def optimizer(self, params: Iterable[Any], **options: Any) -> DWFOptimizer:
        return DWFOptimizer(params, penalty=1e-3, **{**self.options, **options})


# OneCycleLR moves momentum as well as the rate; it sets the rate itself.
RECIPES = [
    Recipe(
        "SGD", {"lr": 0.1, "momentum": 0.9, "depth": 3}, lambda opt, steps: OneCycleLR(opt, 0.1, steps)
    ),
    Recipe(
        "AdamW",
        {"lr": 5e-3, "base": torch.optim.AdamW, "depth": 2},
        lambda opt, steps: CosineAnnealingLR(opt, steps),
    ),
]


def digits() -> Batch:
    """The first images of scikit-learn's digits, pixels from 0 to 1, and their labels."""
    pixels, labels = load_digits(return_X_y=True)
    count = BATCHES * BATCH
    return torch.tensor(pixels[:count] / 16, dtype=torch.float32), torch.tensor(labels[:count])


def batches() -> Iterator[Batch]:
    """One epoch, in order."""
    pixels, labels = digits()
    yield from zip(pixels.split(BATCH), labels.split(BATCH), strict=True)


def network() -> nn.Sequential:
    """The same network every time."""
    model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
    with torch.no_grad():
        for index, p in enumerate(model.parameters()):
            p.copy_(0.2 * torch.randn(p.shape, generator=seeded(index)))
    return model


def bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


def plain_run(
    recipe: Recipe,
    *,
    clip: Callable[[Iterable[Tensor]], object] | None = None,
    accumulate: int = 1,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> tuple[nn.Module, DWFOptimizer]:
    """Train in a plain torch loop: the reference of every test here."""
    model = network().to(dtype)
    optimizer = recipe.optimizer(model.parameters(), **options)
    scheduler = recipe.schedule(optimizer, STEPS // accumulate)
    for _ in range(EPOCHS):
        for index, (pixels, labels) in enumerate(batches()):
            with precision():
                outputs = model(pixels.to(dtype))
                loss = F.cross_entropy(outputs, labels)
            (loss / accumulate).backward()
            if (index + 1) % accumulate == 0:
                if clip is not None:
                    clip(model.parameters())
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return model, optimizer


def clip_norm(parameters: Iterable[Tensor]) -> None:
    nn.utils.clip_grad_norm_(parameters, 0.05)


def clip_value(parameters: Iterable[Tensor]) -> None:
    nn.utils.clip_grad_value_(parameters, 0.002)


def assert_same_run(
    model: nn.Module, optimizer: DWFOptimizer, other: nn.Module, other_optimizer: DWFOptimizer
) -> None:
    """Weights, factors, the base's state and the groups agree to the bit."""
    assert optimizer.state, "it has not stepped"
    assert identical(snapshot(model), snapshot(other))
    assert_same_state(optimizer, other_optimizer)


def assert_other_run(model: nn.Module, other: nn.Module) -> None:
    """The weights differ: what is tested took part in the run."""
    assert not identical(snapshot(model), snapshot(other))


def zero_masks(optimizer: DWFOptimizer) -> list[Tensor]:
    """Where each factorized weight is zero."""
    return [p.detach() == 0 for p in optimizer.factorized()]


def assert_zeros_stayed(optimizer: DWFOptimizer, masks: list[Tensor], before: list[Tensor]) -> None:
    """Zeros are where they were, in weights and factors, and everything else has moved on."""
    total = sum(mask.numel() for mask in masks)
    assert sum(int(mask.sum()) for mask in masks) >= SPARSITY * total
    for p, mask, old in zip(optimizer.factorized(), masks, before, strict=True):
        assert torch.equal(p == 0, mask)
        assert all(bool((factor[mask] == 0).all()) for factor in optimizer.factors(p))
        assert not torch.equal(p.detach(), old)
