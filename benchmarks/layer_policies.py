"""Does sharing the penalty out by the size of layers help, and does a floor under the last layer?

Run as ``python -m benchmarks.layer_policies --data DIR``. Runs that are in
``results/layer_policies.jsonl`` are skipped; the table is made anew from that file.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.data import Data, Split, add_data_argument, load_digits, load_mnist
from benchmarks.layer_policies_report import report
from benchmarks.models import DIGITS_MLP, LENET_300_100, lenet5, mlp
from benchmarks.records import RESULTS, Records, write_text
from benchmarks.training import accuracy, train
from dwf_optim import DWFOptimizer, param_groups, sparsify

# How a network is built, the shape of its inputs, and its last layer.
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], str]] = {
    "MLP 64-300-100-10": (lambda seed: mlp(DIGITS_MLP, seed), (64,), "4.weight"),
    "LeNet-300-100": (lambda seed: mlp(LENET_300_100, seed), (784,), "4.weight"),
    "LeNet-5": (lenet5, (1, 28, 28), "9.weight"),
}
# "sigma" is left out: torch's default init has variance 1 / (3 fan_in), so it is "fan_in" here.
SCALINGS = ("equal", "fan_in")
COMPRESSIONS = (20, 50, 100, 200, 500)
LR, MOMENTUM, DEPTH = 0.03, 0.9, 3
# By network: penalties, seeds, epochs, batch size.
RUNS: dict[str, tuple[tuple[float, ...], tuple[int, ...], int, int]] = {
    "MLP 64-300-100-10": ((5e-4, 1e-3, 2e-3), (0, 1, 2), 40, 32),
    "LeNet-300-100": ((5e-4, 1e-3), (0, 1), 10, 256),
    "LeNet-5": ((2e-4, 5e-4), (0,), 3, 128),
}


def configurations() -> list[dict[str, Any]]:
    """List all runs."""
    return [
        {
            "network": network,
            "scaling": scaling,
            "penalty": penalty,
            "seed": seed,
            "depth": DEPTH,
            "lr": LR,
            "momentum": MOMENTUM,
            "epochs": epochs,
            "batch_size": batch_size,
            "schedule": "cosine",
            "inputs": "standard",
        }
        for network, (penalties, seeds, epochs, batch_size) in RUNS.items()
        for seed, penalty, scaling in itertools.product(seeds, penalties, SCALINGS)
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, and cut copies to every compression, with and without a floor."""
    build, shape, last = NETWORKS[config["network"]]
    model = build(config["seed"])
    groups = param_groups(
        model,
        penalty=config["penalty"],
        depth=config["depth"],
        penalty_scaling=config["scaling"],
    )
    optimizer = DWFOptimizer(groups, lr=config["lr"], momentum=config["momentum"], seed=config["seed"])
    shaped = Data(*(_shaped(split, shape) for split in (data.train, data.validation, data.test)))
    finite = train(
        model,
        optimizer,
        shaped.train,
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        seed=config["seed"],
        schedule=config["schedule"],
    )
    return {
        "finite": finite,
        "validation": accuracy(model, shaped.validation),
        "penalties": [group["penalty"] for group in optimizer.param_groups[:-1]],
        "cuts": [_cut(model, shaped, ratio, last) for ratio in COMPRESSIONS if finite],
    }


def _cut(model: nn.Module, data: Data, compression: float, last: str) -> dict[str, Any]:
    """Cut to a compression, as it is and with a weight for every output of the last layer."""
    cut: dict[str, Any] = {"compression": compression}
    for name, floor in (("plain", {}), ("floor", {last: 1})):
        candidate = deepcopy(model)
        made = sparsify(candidate, sparsity=1 - 1 / compression, min_nonzero_per_unit=floor)
        cut[name] = {
            "validation": accuracy(candidate, data.validation),
            "test": accuracy(candidate, data.test),
            "protected": made.protected,
            "density": {layer.name: 1 - layer.sparsity for layer in made.layers},
        }
    return cut


def _shaped(split: Split, shape: tuple[int, ...]) -> Split:
    return Split(split.inputs.reshape(-1, *shape), split.targets)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--network", choices=NETWORKS, help="only this one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / "layer_policies.jsonl")
    missing = [
        config
        for config in configurations()
        if not records.has(config) and options.network in (None, config["network"])
    ]
    data: dict[bool, Data] = {}
    for config in tqdm(missing, unit="run"):
        on_mnist = config["network"].startswith("LeNet")
        if on_mnist not in data:
            data[on_mnist] = (
                load_mnist(options.data, "standard") if on_mnist else load_digits("standard")
            )
        records.add(config, run(config, data[on_mnist]))
    write_text(options.out / "layer_policies.md", report(records))


if __name__ == "__main__":
    main()
