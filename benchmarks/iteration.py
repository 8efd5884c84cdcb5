"""How long does a whole training iteration take, against dense and `torch.nn.utils.parametrize`?

Run as ``python -m benchmarks.iteration``; what is in ``results/iteration.jsonl`` is skipped. An
iteration is forward, backward, step and zero_grad on one batch. Every way takes its turn in every round,
in one process, and ratios are medians over rounds: other load on the machine then hits all alike.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from tqdm import tqdm

from benchmarks.iteration_report import DENSE, PARAMETRIZE, write_report
from benchmarks.models import LENET_300_100, lenet5, mlp, resnet8
from benchmarks.product import Product
from benchmarks.records import RESULTS, Records
from dwf_optim import DWFOptimizer

# How a model is built, and the shape of its batch.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 784-300-100-10": (lambda: mlp(LENET_300_100, seed=0), (64, 784)),
    "LeNet-5": (lambda: lenet5(seed=0), (64, 1, 28, 28)),
    "ResNet-8": (lambda: resnet8(seed=0), (128, 3, 32, 32)),
}
DEPTHS = (2, 3, 4)
THREADS = (1, 2)
STORAGES = ("full", "tied")
# A rate at which thousands of iterations leave the weights ordinary numbers.
LR, MOMENTUM, PENALTY = 1e-4, 0.9, 1e-4
# How long a turn lasts, at least.
TURN = 0.02


def configurations() -> list[dict[str, Any]]:
    """List all that is measured."""
    return [
        {"model": model, "depth": depth, "threads": threads}
        for model, depth, threads in itertools.product(MODELS, DEPTHS, THREADS)
    ]


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time an iteration of every way, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on; at least five rounds.

    Returns:
        For every way the median milliseconds of an iteration, and the ratio to dense: median and
        quartiles.
    """
    torch.set_num_threads(config["threads"])
    build, shape = MODELS[config["model"]]
    depth = config["depth"]
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator)
    targets = torch.randint(0, 10, shape[:1], generator=generator)
    ways = {DENSE: _iteration(*_dense(build()), inputs, targets)}
    ways[PARAMETRIZE] = _iteration(*_parametrized(build(), depth), inputs, targets)
    for storage in STORAGES:
        ways[storage] = _iteration(*_ours(build(), depth, storage), inputs, targets)
    for iterate in ways.values():
        _time(iterate, 3)
    count = max(1, round(TURN / _time(ways[DENSE], 3)))
    times: dict[str, list[float]] = {name: [] for name in ways}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times[DENSE]) < 5:
        for name, iterate in ways.items():
            times[name].append(_time(iterate, count))
    result: dict[str, Any] = {"rounds": len(times[DENSE]), "iterations a turn": count}
    for name in ways:
        ratios = [t / d for t, d in zip(times[name], times[DENSE], strict=True)]
        result[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "ratio": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios)[::2],
        }
    gains = [p / f for p, f in zip(times[PARAMETRIZE], times["full"], strict=True)]
    result["faster than parametrize"] = statistics.median(gains)
    return result


def _dense(model: nn.Module) -> tuple[nn.Module, Optimizer]:
    return model, torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)


def _parametrized(model: nn.Module, depth: int) -> tuple[nn.Module, Optimizer]:
    for module in list(model.modules()):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            parametrize.register_parametrization(module, "weight", Product(depth))
    factors = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": factors, "weight_decay": 2 * PENALTY / depth}]
    groups.append({"params": others})
    return model, torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, fused=True)


def _ours(model: nn.Module, depth: int, storage: str) -> tuple[nn.Module, Optimizer]:
    return model, DWFOptimizer(
        model.parameters(),
        lr=LR,
        momentum=MOMENTUM,
        penalty=PENALTY,
        depth=depth,
        storage=storage,
    )


def _iteration(
    model: nn.Module, optimizer: Optimizer, inputs: Tensor, targets: Tensor
) -> Callable[[], None]:
    def iterate() -> None:
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return iterate


def _time(iterate: Callable[[], None], count: int) -> float:
    """Return seconds an iteration."""
    start = time.perf_counter()
    for _ in range(count):
        iterate()
    return (time.perf_counter() - start) / count


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each configuration")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. model=LeNet-5"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="dwf_optim")  # rates for timing train nothing
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "iteration.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.seconds))
    write_report(records, arguments.out)


if __name__ == "__main__":
    main()
