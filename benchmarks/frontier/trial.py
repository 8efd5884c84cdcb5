"""One run: train by a method, cut, train on, measure."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.data import Data, Split
from benchmarks.frontier.augment import crop_and_flip
from benchmarks.frontier.masks import prunable
from benchmarks.frontier.method import Method, Settings
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.metric import first, measured
from benchmarks.frontier.networks import NETWORKS
from benchmarks.training import SCHEDULES


def device() -> torch.device:
    """Return the GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, and measure at every compression of the configuration.

    Args:
        config: As `benchmarks.frontier.experiments` makes them; ``measure`` names the split.
        data: On the device that is trained on.

    Returns:
        Whether the loss stayed finite, seconds, and for each compression what `measured` finds, the
        compression that was reached, and the weights that each layer has left.
    """
    start = time.perf_counter()
    count = config.get("samples")
    data = Data(first(data.train, count), first(data.validation, count), data.test)
    where = data.train.inputs.device
    model = NETWORKS[config["network"]](config["seed"])
    # Convolutions are quickest in this order of memory; a matrix has no other.
    model = model.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = config["epochs"] * math.ceil(len(data.train) / config["batch_size"])
    compressions = config["compressions"]
    kind = METHODS[config["method"]]
    sparsity = None if kind.serves_all else 1 - 1 / compressions[0]
    settings = Settings(
        config["lr"], config["momentum"], config["strength"], sparsity, steps, config["seed"]
    )
    method = kind(model, settings)
    method.before(_forever(data.train, config), F.cross_entropy)
    cut_at = round((1 - kind.finetune) * steps)
    finite = _steps(method, data.train, config, 0, cut_at)
    points = []
    for compression in compressions if finite else ():
        # The training up to here serves all; what is done from here on is this one's.
        each = copy.deepcopy(method) if len(compressions) > 1 else method
        each.cut(1 - 1 / compression)
        finite = _steps(each, data.train, config, cut_at, steps) and finite
        points.append(_measure(each.model, data, compression, config["measure"]))
    return {"finite": finite, "seconds": round(time.perf_counter() - start, 1), "points": points}


def _steps(method: Method, split: Split, config: dict[str, Any], first: int, last: int) -> bool:
    """Take the steps of a run from one to another, and say whether the loss stayed finite."""
    total, batch_size = method.settings.steps, config["batch_size"]
    per_epoch = math.ceil(len(split) / batch_size)
    cosine = SCHEDULES["cosine"]
    model, optimizer = method.model, method.optimizer
    model.train()
    order: tuple[Tensor, ...] = ()
    for step in range(first, last):
        if not order or step % per_epoch == 0:
            order = _order(split, config, step // per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = method.settings.lr * cosine(step / total)
        inputs, targets = _batch(split, order[step % per_epoch], config, step)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
            loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if config.get("clip"):
            nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
        method.before_step()
        optimizer.step()
        method.after_step(step + 1)
        if (step + 1) % per_epoch == 0 and not math.isfinite(loss.item()):
            return False
    return all(bool(p.isfinite().all()) for p in model.parameters())


def _order(split: Split, config: dict[str, Any], epoch: int) -> tuple[Tensor, ...]:
    """Return an epoch's batches: the same for every method, wherever a run begins."""
    generator = torch.Generator().manual_seed(1_000_003 * config["seed"] + epoch)
    order = torch.randperm(len(split), generator=generator).to(split.inputs.device)
    return tuple(order.split(config["batch_size"]))


def _batch(split: Split, rows: Tensor, config: dict[str, Any], step: int) -> tuple[Tensor, Tensor]:
    inputs, targets = split.inputs[rows], split.targets[rows]
    if config["augment"]:
        generator = torch.Generator().manual_seed(1_000_003 * config["seed"] + step)
        inputs = crop_and_flip(inputs, generator)
    return inputs, targets


def _forever(split: Split, config: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through batches of an order that training does not have."""
    for epoch in itertools.count(1):
        for rows in _order(split, {**config, "seed": config["seed"] + 1}, -epoch):
            yield split.inputs[rows], split.targets[rows]


def _measure(model: nn.Module, data: Data, compression: float, split: str) -> dict[str, Any]:
    left = {name: int(p.count_nonzero()) for name, p in prunable(model).items()}
    total = sum(p.numel() for p in prunable(model).values())
    return {
        "compression": compression,
        "reached": total / sum(left.values()) if any(left.values()) else math.inf,
        **measured(model, getattr(data, split)),
        "layers": left,
    }
