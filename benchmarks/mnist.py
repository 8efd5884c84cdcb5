"""How sparse does LeNet-300-100 on MNIST become, at every depth and one learning rate?

Run as ``python -m benchmarks.mnist --data DIR``. Runs that are in ``results/mnist.jsonl`` are
skipped; the table and the plot are made anew from that file.
"""

from __future__ import annotations

import argparse
import itertools
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument, load_mnist
from benchmarks.figures import write_figure
from benchmarks.mnist_report import plot, report
from benchmarks.models import LENET_300_100, mlp
from benchmarks.records import RESULTS, Records, write_text
from benchmarks.training import accuracy, compression, train
from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.learning_rate import FLOAT32_EPS

LR = 0.1
MOMENTUM = 0.9
EPOCHS = 20
SCHEDULE = "cosine"
SCALING = "standard"
# How much validation accuracy a collapse may cost; every run is collapsed by each. The first is the
# headline's, the others show what more tolerance buys.
TOLERANCES = (0.002, 0.005, 0.01)
# Penalties by batch size: smaller batches take more steps, which cost time and gain accuracy.
PENALTIES = {256: (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 7e-4, 1e-3), 128: (2e-4, 3e-4)}
DEPTHS = (2, 3, 4)
SEEDS = (0,)


def configurations() -> list[dict[str, Any]]:
    """List all runs: for each batch size the dense baseline (depth 1), then the factorized ones."""
    return [
        {
            "depth": depth,
            "penalty": penalty,
            "seed": seed,
            "lr": LR,
            "momentum": MOMENTUM,
            "epochs": EPOCHS,
            "batch_size": batch_size,
            "schedule": SCHEDULE,
            "inputs": SCALING,
        }
        for seed in SEEDS
        for batch_size, penalties in PENALTIES.items()
        for depth, penalty in [(1, 0.0), *itertools.product(DEPTHS, penalties)]
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, collapse by tolerance on validation, and measure both on test."""
    model = mlp(LENET_300_100, config["seed"])
    options = {"lr": config["lr"], "momentum": config["momentum"]}
    optimizer: torch.optim.Optimizer
    if config["depth"] == 1:
        optimizer = torch.optim.SGD(model.parameters(), **options)
    else:
        optimizer = DWFOptimizer(
            model.parameters(),
            penalty=config["penalty"],
            depth=config["depth"],
            seed=config["seed"],
            **options,
        )
    losses: list[float] = []
    start = time.perf_counter()
    finite = train(
        model,
        optimizer,
        data.train,
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        seed=config["seed"],
        schedule=config["schedule"],
        on_epoch=lambda epoch, loss: losses.append(loss),
    )
    result: dict[str, Any] = {
        "seconds": round(time.perf_counter() - start, 1),
        "finite": finite,
        "losses": [round(loss, 5) for loss in losses],
        "validation": accuracy(model, data.validation),
        "test": accuracy(model, data.test),
        "compression_eps": compression(model, FLOAT32_EPS),
        "compression_1e-3": compression(model, 1e-3),
    }
    # Dense weights are pruned by the same rule, which shows what one-shot pruning alone would give.
    result["collapsed"] = [collapse(model, data, tolerance) for tolerance in TOLERANCES if finite]
    return result


def collapse(model: nn.Module, data: Data, tolerance: float) -> dict[str, Any]:
    """Sparsify a copy by a tolerance on validation accuracy, and measure it."""
    model = deepcopy(model)
    made = sparsify(
        model,
        tolerance=tolerance,
        evaluate=lambda candidate: accuracy(candidate, data.validation),
        progress=False,
    )
    return {
        "tolerance": tolerance,
        "validation": made.metric_after,
        "test": accuracy(model, data.test),
        "compression": made.compression_ratio,
        "nonzero": made.nonzero,
        "threshold": made.threshold,
        "layers": {layer.name: layer.nonzero for layer in made.layers},
    }


def main() -> None:
    """Run what is missing, then write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--depth", type=int, nargs="*", help="run these depths only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "mnist.jsonl"
    records = Records(path)
    missing = [
        config
        for config in configurations()
        if not records.has(config) and (not options.depth or config["depth"] in options.depth)
    ]
    if missing:
        data = load_mnist(options.data, SCALING)
        for config in tqdm(missing, unit="run"):
            records.add(config, run(config, data))
    records = Records(path)  # another process may have added to it
    write_text(options.out / "mnist.md", report(records))
    write_figure(options.out / "mnist.png", plot(records))
    print(f"wrote {options.out / 'mnist.md'} and mnist.png")


if __name__ == "__main__":
    main()
