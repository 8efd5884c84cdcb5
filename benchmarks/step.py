"""How long does an optimizer step take, against torch's fused dense step and the memory's own limit?

Run as ``python -m benchmarks.step``; what is in ``results/step.jsonl`` is skipped. Every way to step
takes its turn in every round, in one process, and ratios are medians over rounds: other load on the
machine then hits all alike.
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
from torch.nn import Parameter
from tqdm import tqdm

from benchmarks.records import RESULTS, Records
from benchmarks.shapes import SETS, elements
from benchmarks.step_report import write_report
from dwf_optim import DWFOptimizer

# Options, and tensors of base state per factor.
BASES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "SGD": (torch.optim.SGD, {}, 0),
    "SGD momentum": (torch.optim.SGD, {"momentum": 0.9}, 1),
    "Adam": (torch.optim.Adam, {}, 2),
    "AdamW": (torch.optim.AdamW, {}, 2),
}
DEPTHS = (1, 2, 3, 4)
THREADS = (1, 2)
PATHS = ("reference", "blocked", "native")
DENSE, STREAM = "dense fused", "stream"
FLOAT = 4
# The largest stream: well out of any cache.
MOST_STREAMED = 2**28


def configurations(memory: float) -> list[dict[str, Any]]:
    """List what fits into so many GB."""
    configs = [
        {"set": name, "base": base, "depth": depth, "threads": threads}
        for name, base, depth, threads in itertools.product(SETS, BASES, DEPTHS, THREADS)
    ]
    return [config for config in configs if _footprint(config) <= memory * 1e9]


def _footprint(config: dict[str, Any]) -> int:
    """Bytes of both optimizers: weights twice, one gradient, states, and the stream."""
    states, depth = BASES[config["base"]][2], config["depth"]
    per_weight = 2 + 1 + states + (depth * (1 + states) if depth > 1 else states)
    return FLOAT * elements(config["set"]) * per_weight + FLOAT * _streamed(config)


def moved(config: dict[str, Any]) -> int:
    """Return the bytes that a step at least reads and writes, by parameter: its floor."""
    depth: int = config["depth"]
    states = BASES[config["base"]][2]
    if depth == 1:
        return FLOAT * (1 + 2 + 2 * states)
    return FLOAT * (1 + 1 + 2 * depth * (1 + states))


def _streamed(config: dict[str, Any]) -> int:
    """Floats in a stream that moves as much memory as the step does."""
    return min(elements(config["set"]) * moved(config) // (2 * FLOAT), MOST_STREAMED)


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time every way to step, and the stream, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on; at least five rounds.

    Returns:
        For every way the median milliseconds and the median ratio to the dense step; the stream's GB/s.
    """
    torch.set_num_threads(config["threads"])
    base, options, _ = BASES[config["base"]]
    generator = torch.Generator().manual_seed(0)
    shapes = SETS[config["set"]]
    dense, factorized = ([Parameter(torch.empty(shape)) for shape in shapes] for _ in range(2))
    for p, q in zip(dense, factorized, strict=True):
        torch.nn.init.normal_(p, std=0.05, generator=generator)
        q.data.copy_(p)
        p.grad = torch.empty_like(p).normal_(std=1e-3, generator=generator)
        q.grad = p.grad
    # Rates at which hundreds of steps on one gradient leave the weights ordinary numbers.
    plain = base(dense, lr=1e-6, fused=True, **options)
    ours = DWFOptimizer(factorized, lr=1e-6, base=base, penalty=1e-4, depth=config["depth"], **options)
    stream = torch.ones(_streamed(config))
    paths = PATHS if config["depth"] > 1 else PATHS[-1:]
    times: dict[str, list[float]] = {name: [] for name in (DENSE, STREAM, *paths)}
    ways: dict[str, Callable[[], Any]] = {DENSE: plain.step, STREAM: lambda: stream.mul_(1.0000001)}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times[DENSE]) < 5:
        for name, step in ways.items():
            times[name].append(_time(step))
        for path in paths:
            ours.backend = path if config["depth"] > 1 else "auto"
            ours.step()  # after another backend the weights are compared once
            times[path].append(_time(ours.step))
    result: dict[str, Any] = {"rounds": len(times[DENSE])}
    for name in (DENSE, *paths):
        ratios = [t / d for t, d in zip(times[name], times[DENSE], strict=True)]
        result[name] = {
            "ms": 1e3 * statistics.median(times[name]),
            "ratio": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios)[::2],
        }
    result["bandwidth"] = 2 * FLOAT * len(stream) / statistics.median(times[STREAM]) / 1e9
    for path in paths:
        work = moved(config) * elements(config["set"]) / (2 * FLOAT * len(stream))
        shares = [work * s / t for s, t in zip(times[STREAM], times[path], strict=True)]
        result[path]["of_stream"] = statistics.median(shares)
    return result


def _time(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--memory", type=float, default=6.0, help="GB; what needs more is left out")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each configuration")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. set=lenet300"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="dwf_optim")  # rates for timing train nothing
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "step.jsonl")
    for config in tqdm(configurations(arguments.memory), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.seconds))
    write_report(records, arguments.out)


if __name__ == "__main__":
    main()
