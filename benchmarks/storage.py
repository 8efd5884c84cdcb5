"""Does a network train as well when one root stands for all factors of a weight?

Run as ``python -m benchmarks.storage --data DIR``: LeNet-300-100 on MNIST at depth 3, every storage,
three seeds, otherwise as in `benchmarks.mnist`. Runs that are in ``results/storage.jsonl`` are skipped.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument, load_mnist
from benchmarks.mnist import EPOCHS, LR, MOMENTUM, SCALING, SCHEDULE, TOLERANCES, collapse
from benchmarks.models import LENET_300_100, mlp
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, write_text
from benchmarks.training import accuracy, train
from dwf_optim import DWFOptimizer
from dwf_optim.storage import STORAGES

DEPTH = 3
# The penalty at which depth 3 is sparser than 90 and no less accurate than 97.8 % in results/mnist.md.
PENALTY = 2e-4
BATCH_SIZE = 128
SEEDS = (0, 1, 2)


def configurations() -> list[dict[str, Any]]:
    """List all runs, so that the storages of one seed come one after the other."""
    return [
        {
            "storage": storage,
            "depth": DEPTH,
            "penalty": PENALTY,
            "seed": seed,
            "lr": LR,
            "momentum": MOMENTUM,
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "schedule": SCHEDULE,
            "inputs": SCALING,
        }
        for seed in SEEDS
        for storage in STORAGES
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, collapse by tolerance on validation, and measure both on test."""
    model = mlp(LENET_300_100, config["seed"])
    optimizer = DWFOptimizer(
        model.parameters(),
        config["lr"],
        momentum=config["momentum"],
        penalty=config["penalty"],
        depth=config["depth"],
        storage=config["storage"],
        seed=config["seed"],
    )
    start = time.perf_counter()
    finite = train(
        model,
        optimizer,
        data.train,
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        seed=config["seed"],
        schedule=config["schedule"],
    )
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "finite": finite,
        "test": accuracy(model, data.test),
        "collapsed": [collapse(model, data, tolerance) for tolerance in TOLERANCES if finite],
    }


def report(records: Records) -> str:
    """Write the table: a line for each storage and tolerance, means over seeds with their range."""
    lines = [
        "# One root a weight against all factors",
        "",
        "Made by `python -m benchmarks.storage --data DIR`. LeNet-300-100, MNIST, depth "
        f"{DEPTH}, penalty {PENALTY:g}, batch {BATCH_SIZE}, {EPOCHS} epochs; {len(SEEDS)} seeds: mean "
        "(least to most).",
        "",
        "| storage | tolerance | test accuracy, % | compression |",
        "|---|---:|---:|---:|",
    ]
    finite = [row for row in records.rows if row[RESULT]["finite"]]
    for storage in STORAGES:
        runs = [row[RESULT] for row in finite if row[CONFIG]["storage"] == storage]
        for index, tolerance in enumerate(TOLERANCES if runs else ()):
            collapsed = [result["collapsed"][index] for result in runs]
            tests = _spread([100 * c["test"] for c in collapsed], 2)
            ratios = _spread([c["compression"] for c in collapsed], 1)
            lines.append(f"| {storage} | {tolerance} | {tests} | {ratios} |")
    return "\n".join([*lines, "", f"Made on {records.provenance()}", ""])


def _spread(values: list[float], digits: int) -> str:
    mean, least, most = statistics.mean(values), min(values), max(values)
    return f"{mean:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "storage.jsonl"
    records = Records(path)
    missing = [config for config in configurations() if not records.has(config)]
    if missing:
        data = load_mnist(options.data, SCALING)
        for config in tqdm(missing, unit="run"):
            records.add(config, run(config, data))
    write_text(options.out / "storage.md", report(Records(path)))
    print(f"wrote {options.out / 'storage.md'}")


if __name__ == "__main__":
    main()
