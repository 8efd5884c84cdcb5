"""How much smaller do networks become when DWF trains whole filters, neurons and inputs to zero?

Run as ``python -m benchmarks.structured --data DIR``, and then with ``--time`` for milliseconds of what
came out. Runs that are in ``results/structured.jsonl`` are skipped; the page is made anew from it.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument, load_digits, load_mnist
from benchmarks.dense_runtimes import Array, Call, onnx_runtime, torch_eager
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, write_text
from benchmarks.structured_networks import NETWORKS, Network
from benchmarks.structured_report import report
from benchmarks.training import accuracy, train
from benchmarks.turns import take_turns
from dwf_optim import DWFOptimizer, sparsify
from inference import shrink_with_report

OPTIONS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9}
BATCH_SIZE = 128
# How much validation accuracy the collapse may cost.
TOLERANCES = (0.002, 0.005)
EPOCHS = {"small convolutions": 100, "LeNet-5": 3, "LeNet-300-100": 10}
# Depth and penalty; depth 1 is the dense network, whose groups are then pruned by their norm.
RUNS = {
    "small convolutions": ((3, 4e-3), (1, 0.0), (2, 4e-3), (3, 8e-3), (2, 8e-3), (3, 2e-3), (2, 2e-3)),
    "LeNet-5": ((3, 5e-3), (2, 5e-3), (1, 0.0), (3, 1e-2), (2, 1e-2), (3, 2e-3), (2, 2e-3)),
    "LeNet-300-100": ((3, 2e-3), (2, 2e-3), (1, 0.0), (3, 4e-3), (2, 4e-3)),
}
SEEDS = (0,)
BATCHES = (1, 64)


def configurations() -> list[dict[str, Any]]:
    """List all runs, in the order in which they are made."""
    return [
        {
            "network": name,
            "depth": depth,
            "penalty": penalty,
            "seed": seed,
            **OPTIONS,
            "epochs": EPOCHS[name],
            "batch_size": BATCH_SIZE,
        }
        for seed in SEEDS
        for name, runs in RUNS.items()
        for depth, penalty in runs
    ]


def load_data(folder: Path, name: str) -> Data:
    """Load what a network learns."""
    return load_digits("standard") if name == "digits" else load_mnist(folder, "standard")


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, collapse by each tolerance on validation, make the network smaller, and measure it."""
    network = NETWORKS[config["network"]]
    model = network.build(config["seed"])
    factorized = DWFOptimizer(
        network.groups(model), penalty=config["penalty"], depth=max(2, config["depth"]), **OPTIONS
    )
    dense: Optimizer = torch.optim.SGD(model.parameters(), **OPTIONS)
    losses: list[float] = []
    start = time.process_time()
    finite = train(
        model,
        factorized if config["depth"] > 1 else dense,
        data.train,
        batch_size=config["batch_size"],
        epochs=config["epochs"],
        seed=config["seed"],
        schedule="cosine",
        on_epoch=lambda epoch, loss: losses.append(loss),
    )
    return {
        "cpu_seconds": round(time.process_time() - start, 1),
        "finite": finite,
        "losses": [round(loss, 5) for loss in losses],
        "validation": accuracy(model, data.validation),
        "test": accuracy(model, data.test),
        "collapsed": [collapse(network, model, factorized, data, t) for t in TOLERANCES if finite],
    }


def collapse(
    network: Network, model: nn.Module, optimizer: DWFOptimizer, data: Data, tolerance: float
) -> dict[str, Any]:
    """Sparsify a copy by a tolerance on validation accuracy, and make it smaller."""
    model, optimizer = deepcopy((model, optimizer))
    made = sparsify(
        model,
        optimizer,
        tolerance=tolerance,
        evaluate=lambda candidate: accuracy(candidate, data.validation),
        progress=False,
    )
    small, smaller = shrink_with_report(model.eval(), data.validation.inputs[:8])
    widths = [layer.groups_alive or 0 for layer in made.layers]
    return {
        "tolerance": tolerance,
        "validation": made.metric_after,
        "test": accuracy(small, data.test),
        "threshold": made.threshold,
        "widths": widths,
        "flops": (network.flops(network.widths), network.flops(widths)),
        "parameters": smaller.parameters,
        "shapes": [list(weight.after) for weight in smaller.weights],
        "difference": largest_difference(model, small, data.test.inputs[:1000]),
        "stuck": [str(stuck) for stuck in smaller.stuck],
    }


@torch.no_grad()
def largest_difference(model: nn.Module, small: nn.Module, inputs: Tensor) -> float:
    """Return how far the outputs of both are apart at most, in float32."""
    return float((model(inputs) - small(inputs)).abs().max())


def time_sizes(network: Network, widths: list[int], batch: int, seconds: float) -> dict[str, Any]:
    """Time the full network and one of these widths in turns: how fast it is depends on nothing else."""
    calls: dict[str, Call] = {}
    examples: dict[str, Array] = {}
    for size, some in (("full", network.widths), ("small", widths)):
        model = network.of_widths(some)
        example = network.inputs(some, batch).numpy()
        calls[f"{size} torch"] = torch_eager(model)
        calls[f"{size} onnxruntime"] = onnx_runtime(model, example)
        examples |= {f"{size} torch": example, f"{size} onnxruntime": example}
    repeats = max(1, 64 // batch)

    def timed(name: str) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            calls[name](examples[name])
        return (time.perf_counter() - start) / repeats

    for name in calls:
        timed(name)  # the first call of a session takes longer
    ways = {name: functools.partial(timed, name) for name in calls}
    times = take_turns(ways, "full torch", seconds, least=5)
    return {name: 1e3 * statistics.median(values.values()) for name, values in times.items()}


def time_missing(records: Records, timings: Records, seconds: float) -> None:
    """Time every network that came out of a run and has not been timed."""
    found = {
        (row[CONFIG]["network"], tuple(one["widths"]))
        for row in records.rows
        for one in row[RESULT]["collapsed"]
        if 0 not in one["widths"]
    }
    for name, widths in sorted(found):
        for batch in BATCHES:
            config = {"network": name, "widths": list(widths), "batch": batch}
            if not timings.has(config):
                timings.add(config, time_sizes(NETWORKS[name], list(widths), batch, seconds))


def main() -> None:
    """Run or time what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--depth", type=int, nargs="*", help="run these depths only")
    parser.add_argument("--network", choices=NETWORKS, help="run this network only")
    parser.add_argument("--time", action="store_true", help="time the smaller networks instead")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each timing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / "structured.jsonl")
    timings = Records(options.out / "structured_speed.jsonl")
    missing = [
        config
        for config in configurations()
        if not records.has(config)
        and (not options.depth or config["depth"] in options.depth)
        and options.network in (None, config["network"])
    ]
    if options.time:
        time_missing(records, timings, options.seconds)
    elif missing:
        load = functools.cache(functools.partial(load_data, options.data))
        for config in tqdm(missing, unit="run"):
            records.add(config, run(config, load(NETWORKS[config["network"]].data)))
    records = Records(options.out / "structured.jsonl")  # another process may have added to it
    write_text(options.out / "structured.md", report(records, timings))
    print(f"wrote {options.out / 'structured.md'}: {len(records.rows)} runs")


if __name__ == "__main__":
    main()
