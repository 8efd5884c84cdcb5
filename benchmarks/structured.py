"""How much smaller does LeNet-5 become on MNIST when DWF trains whole filters and neurons to zero?

Run as ``python -m benchmarks.structured --data DIR``, and with ``--time`` for milliseconds of what came
out. Runs that are in ``results/structured.jsonl`` are skipped; the page is made anew from that file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument, load_mnist
from benchmarks.dense_runtimes import onnx_runtime, torch_eager
from benchmarks.models import lenet5
from benchmarks.records import RESULT, RESULTS, Records, write_text
from benchmarks.structured_report import report
from benchmarks.training import accuracy, train
from benchmarks.turns import take_turns
from dwf_optim import DWFOptimizer, sparsify
from inference import shrink_with_report

LR = 0.1
MOMENTUM = 0.9
EPOCHS = 3
BATCH_SIZE = 128
# How much validation accuracy the collapse may cost.
TOLERANCES = (0.002, 0.005)
# Depth and penalty; depth 1 is the dense network, whose filters are then pruned by their norm.
RUNS = ((3, 5e-3), (2, 5e-3), (1, 0.0), (3, 1e-2), (2, 1e-2), (3, 2e-3), (2, 2e-3))
SEEDS = (0,)
WIDTHS = (20, 50, 500)
BATCHES = (1, 64)
EXAMPLE = torch.zeros(1, 784)


def configurations() -> list[dict[str, Any]]:
    """List all runs, in the order in which they are made."""
    return [
        {
            "depth": depth,
            "penalty": penalty,
            "seed": seed,
            "lr": LR,
            "momentum": MOMENTUM,
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
        }
        for seed in SEEDS
        for depth, penalty in RUNS
    ]


def network(seed: int) -> nn.Sequential:
    """Build LeNet-5 for flat images."""
    return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *lenet5(seed))


def groups(model: nn.Sequential) -> list[dict[str, Any]]:
    """Gate the filters of both convolutions and the neurons of the hidden layer."""
    filters = [layer.weight for layer in model if isinstance(layer, nn.Conv2d)]
    hidden, _ = (layer.weight for layer in model if isinstance(layer, nn.Linear))
    gated = [*filters, hidden]
    rest = [p for p in model.parameters() if not any(p is other for other in gated)]
    return [
        {"params": filters, "structure": "filter"},
        {"params": [hidden], "structure": "neuron"},
        {"params": rest, "depth": 1, "penalty": 0.0},
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once, collapse by each tolerance on validation, make the network smaller, and measure it."""
    model = network(config["seed"])
    options = {"lr": config["lr"], "momentum": config["momentum"]}
    factorized = DWFOptimizer(
        groups(model), penalty=config["penalty"], depth=max(2, config["depth"]), **options
    )
    dense: Optimizer = torch.optim.SGD(model.parameters(), **options)
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
        "collapsed": [collapse(model, factorized, data, t) for t in TOLERANCES if finite],
    }


def collapse(model: nn.Module, optimizer: DWFOptimizer, data: Data, tolerance: float) -> dict[str, Any]:
    """Sparsify a copy by a tolerance on validation accuracy, and make it smaller."""
    model, optimizer = deepcopy((model, optimizer))
    made = sparsify(
        model,
        optimizer,
        tolerance=tolerance,
        evaluate=lambda candidate: accuracy(candidate, data.validation),
        example=EXAMPLE,
        progress=False,
    )
    small, smaller = shrink_with_report(model.eval(), data.validation.inputs[:8])
    return {
        "tolerance": tolerance,
        "validation": made.metric_after,
        "test": accuracy(small, data.test),
        "threshold": made.threshold,
        "alive": {layer.name: layer.groups_alive for layer in made.layers},
        "widths": [layer.groups_alive for layer in made.layers],
        "parameters": smaller.parameters,
        "flops": smaller.flops,
        "difference": largest_difference(model, small, data.test.inputs[:1000]),
        "stuck": [str(stuck) for stuck in smaller.stuck],
    }


@torch.no_grad()
def largest_difference(model: nn.Module, small: nn.Module, inputs: Tensor) -> float:
    """Return how far the outputs of both are apart at most, in float32."""
    return float((model(inputs) - small(inputs)).abs().max())


def of_widths(widths: list[int]) -> nn.Sequential:
    """Build a LeNet-5 of other widths; how fast it is does not depend on its weights."""
    first, second, hidden = widths
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, first, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * second, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    ).eval()


def time_sizes(widths: list[int], batch: int, seconds: float) -> dict[str, Any]:
    """Time the full network and one of these widths in turns, in torch and in onnxruntime."""
    example = torch.rand(batch, 784).numpy()
    models = {"full": of_widths(list(WIDTHS)), "small": of_widths(widths)}
    runtimes = {"torch": torch_eager, "onnxruntime": lambda model: onnx_runtime(model, example)}
    calls = {
        f"{size} {runtime}": build(model)
        for size, model in models.items()
        for runtime, build in runtimes.items()
    }
    repeats = max(1, 64 // batch)

    def timed(name: str) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            calls[name](example)
        return (time.perf_counter() - start) / repeats

    for name in calls:
        timed(name)  # the first call of a session takes longer
    times = take_turns({name: lambda n=name: timed(n) for name in calls}, "full torch", seconds, 5)
    return {name: 1e3 * statistics.median(values.values()) for name, values in times.items()}


def main() -> None:
    """Run or time what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--depth", type=int, nargs="*", help="run these depths only")
    parser.add_argument("--time", action="store_true", help="time the smaller networks instead")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each timing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / "structured.jsonl")
    timings = Records(options.out / "structured_speed.jsonl")
    if options.time:
        found = {tuple(one["widths"]) for row in records.rows for one in row[RESULT]["collapsed"]}
        for widths in sorted(found):
            for batch in BATCHES:
                config = {"widths": list(widths), "batch": batch}
                if not timings.has(config):
                    timings.add(config, time_sizes(list(widths), batch, options.seconds))
    else:
        missing = [
            config
            for config in configurations()
            if not records.has(config) and (not options.depth or config["depth"] in options.depth)
        ]
        data = load_mnist(options.data, "standard") if missing else None
        for config in tqdm(missing, unit="run"):
            if data is not None:
                records.add(config, run(config, data))
    records = Records(options.out / "structured.jsonl")  # another process may have added to it
    write_text(options.out / "structured.md", report(records, timings))
    print(f"wrote {options.out / 'structured.md'}: {len(records.rows)} runs")


if __name__ == "__main__":
    main()
