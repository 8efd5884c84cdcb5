"""One run: train by a method, remove more and more units, fine-tune where the method does, measure."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from benchmarks.data import Data, Split
from benchmarks.frontier.augment import crop_and_flip
from benchmarks.structured.method import Method, Settings
from benchmarks.structured.methods import METHODS
from benchmarks.structured.setups import SETUPS, Setup
from benchmarks.structured.units import norms, zero_smallest_
from benchmarks.training import train
from inference import shrink_with_report

# The loss of accuracy after which a run cuts no further.
HOPELESS = 0.2
MOMENTUM = 0.9
SEEDS = (0,)
CHUNK = 1000


def configurations(name: str) -> list[dict[str, Any]]:
    """List the runs of a setup, in the order in which they are made."""
    setup = SETUPS[name]
    return [
        {
            "setup": name,
            "method": method,
            "strength": strength,
            "lr": setup.rates.get(method, setup.lr),
            "momentum": MOMENTUM,
            "epochs": setup.epochs,
            "finetune": setup.finetune if METHODS[method].finetunes else 0,
            "finetune_lr": setup.lr * rate,
            "batch_size": setup.batch_size,
            "seed": seed,
        }
        for seed in SEEDS
        for rank in range(max(map(len, setup.strengths.values())))
        for method, strengths in setup.strengths.items()
        for strength in strengths[rank : rank + 1]
        for rate in (METHODS[method].finetune_rates if METHODS[method].finetunes else (0.0,))
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, and measure at every share of units.

    Args:
        config: One of `configurations`.
        data: On the device that is trained on.

    Returns:
        Whether the loss stayed finite, its mean in each epoch, seconds of CPU, accuracies as trained,
        and a point for each share that is left.
    """
    start = time.process_time()
    setup = SETUPS[config["setup"]]
    # Convolutions are quickest in this order of memory.
    model = setup.build(config["seed"]).to(
        device=data.train.inputs.device, memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    settings = Settings(config["lr"], config["momentum"], config["strength"], config["seed"])
    method = METHODS[config["method"]](setup.units(model), settings)
    losses: list[float] = []
    epochs = config["epochs"] - config["finetune"]
    finite = _train(model, method.optimizer(model), data, config, setup, epochs, losses)
    before = {"validation": accuracy(model, data.validation), "test": accuracy(model, data.test)}
    points: list[dict[str, Any]] = []
    for kept in setup.kept if finite else ():
        points.append(_cut(method, model, kept, data, config, setup))
        if points[-1]["validation"] < before["validation"] - HOPELESS:
            break
    seconds = round(time.process_time() - start, 1)
    return {"finite": finite, "losses": losses, "cpu_seconds": seconds, **before, "points": points}


def _cut(
    method: Method, model: nn.Module, kept: float, data: Data, config: dict[str, Any], setup: Setup
) -> dict[str, Any]:
    """Remove units of a copy, train it on if the method does, and measure."""
    model = copy.deepcopy(model).eval()
    groups = method.groups()
    zero_smallest_(model, groups, method.scores(model), 1 - kept)
    small, report = shrink_with_report(model, data.train.inputs[:8], select_inputs=True)
    difference = largest_difference(model, small, data.validation.inputs[:CHUNK])
    if config["finetune"]:
        rate = {"lr": config["finetune_lr"], "momentum": config["momentum"]}
        _train(small, SGD(small.parameters(), **rate), data, config, setup, config["finetune"], [])
    return {
        "kept": kept,
        "units": [int(norms(model, group).count_nonzero()) for group in groups],
        "flops": report.flops,
        "parameters": report.parameters,
        "difference": difference,
        "stuck": [str(stuck) for stuck in report.stuck],
        "validation": accuracy(small, data.validation),
        "test": accuracy(small, data.test),
    }


def _train(
    model: nn.Module,
    optimizer: Optimizer,
    data: Data,
    config: dict[str, Any],
    setup: Setup,
    epochs: int,
    losses: list[float],
) -> bool:
    """Train with a cosine schedule down to zero; fine-tuning has one of its own."""
    generator = torch.Generator().manual_seed(config["seed"])
    return train(
        model,
        optimizer,
        data.train,
        batch_size=config["batch_size"],
        epochs=epochs,
        seed=config["seed"],
        schedule="cosine",
        change=(lambda inputs: crop_and_flip(inputs, generator)) if setup.augment else None,
        on_epoch=lambda epoch, loss: losses.append(round(loss, 5)),
    )


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of targets that have the largest logit; a text has many targets a sample."""
    was_training = model.training
    model.eval()
    parts = zip(split.inputs.split(CHUNK), split.targets.split(CHUNK), strict=True)
    hits = sum(int((model(inputs).argmax(1) == targets).sum()) for inputs, targets in parts)
    model.train(was_training)
    return hits / split.targets.numel()


@torch.no_grad()
def largest_difference(model: nn.Module, small: nn.Module, inputs: Tensor) -> float:
    """Return how far the outputs of both are apart at most, in float32."""
    return float((model(inputs) - small(inputs)).abs().max())
