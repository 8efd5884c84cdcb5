"""The runs that the analyses share: LeNet-300-100 on MNIST, watched by the public `Monitor`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.data import Data, Split
from benchmarks.frontier.datasets import load
from benchmarks.frontier.networks import NETWORKS
from benchmarks.mnist import collapse
from benchmarks.records import RESULT, Records
from benchmarks.training_runs import Run, evaluate
from dwf_optim import DWFOptimizer, Monitor
from dwf_optim.init import INITS, Init

Config = dict[str, Any]
NETWORK = "LeNet-300-100"
# 20 epochs of the 55,000 images that are trained on, in whole batches.
STEPS, BATCH_SIZE, MOMENTUM = 4280, 256, 0.9
# The usual run; an analysis changes one thing or two.
USUAL: Config = {"depth": 3, "init": "preserve", "lr": 0.1, "penalty": 3e-4, "images": 55_000, "seed": 0}
PLAIN = "plain"
# Steps between two looks: half an epoch.
EVERY = 107
# The accuracy on held-out images that the collapse after training may cost.
TOLERANCE = 0.005


def _plain(
    shape: torch.Size, depth: int, sigma: float, generator: torch.Generator, dtype: torch.dtype
) -> list[Tensor]:
    """Draw every factor as the layer's weights usually are, with deviation sigma."""
    # Candidates are in units of sigma^(1/D).
    scale = sigma ** (1 - 1 / depth)
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(depth)]


def configuration(**changes: Any) -> Config:
    """Return the usual run with changes; depth 1 is dense, and has neither penalty nor init.

    Raises:
        ValueError: If something else than the usual run's entries is to change.
    """
    if unknown := changes.keys() - USUAL.keys():
        raise ValueError(f"a run has no {sorted(unknown)}; it has {sorted(USUAL)}")
    config = {**USUAL, **changes}
    if config["depth"] == 1:
        config.update(init=None, penalty=0.0)
    return config


def run(config: Config, data: Data) -> dict[str, Any]:
    """Train once.

    Args:
        config: As of `configuration`.
        data: Of MNIST.

    Returns:
        Whether the loss stayed ``finite``, CPU ``seconds``, ``test`` accuracy, what was seen every
        `EVERY` steps (``history``, in columns), and what `benchmarks.mnist.collapse` makes of it.
    """
    # A first try at factorizing. The paper shows that it fails, so the package does not have it.
    INITS[PLAIN] = Init(_plain, redraws=True)
    try:
        return _run(config, data)
    finally:
        del INITS[PLAIN]


def _run(config: Config, data: Data) -> dict[str, Any]:
    start = time.process_time()
    train = Split(data.train.inputs[: config["images"]], data.train.targets[: config["images"]])
    seen = Split(train.inputs[: len(data.validation)], train.targets[: len(data.validation)])
    made = _start(config)
    history: dict[str, list[Any]] = {}
    finite = True
    with Monitor(made.optimizer, every=STEPS + 1) as monitor:
        # The first step makes the factors.
        for until in (1, *range(EVERY, STEPS + 1, EVERY)):
            finite = made.train(train, until)
            if not finite:
                break
            for name, split in (("train", seen), ("validation", data.validation)):
                found = evaluate(made.model, split)
                monitor.log(**{f"{name} {what}": value for what, value in found.items()})
            record = monitor.record()
            line: dict[str, Any] = {
                "step": record.step,
                "misalignment": record.misalignment,
                "quasi_norm": sum(layer.quasi_norm for layer in record.layers.values()),
                "sparsity": record.sparsity(),
                **{f"sparsity {name}": layer.sparsity() for name, layer in record.layers.items()},
                **record.values,
            }
            for name, value in line.items():
                history.setdefault(name, []).append(float(f"{value:.4g}") if name != "step" else value)
    return {
        "finite": finite,
        "test": evaluate(made.model, data.test)["accuracy"],
        "collapsed": collapse(made.model, data, TOLERANCE) if finite else None,
        "history": history,
        "seconds": round(time.process_time() - start, 1),
    }


def _start(config: Config) -> Run:
    model = NETWORKS[NETWORK](config["seed"])
    optimizer = DWFOptimizer(
        model.named_parameters(),
        lr=config["lr"],
        momentum=MOMENTUM,
        penalty=config["penalty"],
        depth=config["depth"],
        init=config["init"],
        seed=config["seed"],
    )
    return Run(model, optimizer, steps=STEPS, batch_size=BATCH_SIZE, seed=config["seed"])


def run_missing(configs: Iterable[Config], records: Records, data: Path) -> None:
    """Run what the records lack, one after the other on one thread.

    Args:
        configs: In the order in which they are run; those that are there twice run once.
        records: Grow run by run.
        data: Folder of MNIST.
    """
    missing: list[Config] = []
    for config in configs:
        if not records.has(config) and config not in missing:
            missing.append(config)
    if not missing:
        return
    torch.set_num_threads(1)
    # Weights on their way to zero pass through numbers on which a processor is many times slower.
    torch.set_flush_denormal(True)
    # Rates too high are part of what is asked.
    warnings.filterwarnings("ignore", "lr outside the usable window")
    loaded = load("mnist", data, torch.device("cpu"))
    for config in tqdm(missing, unit="run"):
        records.add(config, run(config, loaded))


def setting(records: Records) -> str:
    """Say in Markdown what is common to all runs, and where they were made."""
    if not records.rows:
        return "No runs yet."
    minutes = sum(row[RESULT]["seconds"] for row in records.rows) / 60
    count = len(records.rows)
    return f"""\
{NETWORK} on MNIST, {STEPS} steps of batch {BATCH_SIZE} (20 epochs), SGD with momentum {MOMENTUM:g},
cosine schedule; where nothing else is said, lr {USUAL["lr"]:g}, penalty {USUAL["penalty"]:g} and
`init="{USUAL["init"]}"`. One seed. Collapsed: by one threshold over all layers, the largest that costs
at most {100 * TOLERANCE:g} points on 5000 images that are held out. Accuracies over a run are on those;
on the test set are the trained and the collapsed network only.

Made by `python -m benchmarks.analyses run` ({count} runs, {minutes:.0f} CPU minutes), and again from
`runs.jsonl` by `report`. {records.provenance()}
"""
