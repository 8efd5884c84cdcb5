"""What does watching a run cost, and how often may one look for 1 % of its time?

Run as ``python -m benchmarks.monitor``; what is in ``results/monitor.jsonl`` is skipped. Runs of
iterations with and without a monitor take turns in one process, and so do single records.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.iteration import LR, MODELS, MOMENTUM, PENALTY
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.turns import median_and_quartiles, ratios, take_turns
from dwf_optim import DWFOptimizer, Monitor

LIMIT = 0.01
EVERY = 100


def configurations() -> list[dict[str, Any]]:
    """List all that is measured."""
    pairs = [("MLP 784-300-100-10", depth) for depth in (2, 3, 4)] + [("LeNet-5", 3)]
    return [{"model": model, "depth": depth, "threads": 1} for model, depth in pairs]


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time iterations with and without a monitor.

    Args:
        config: One of `configurations`.
        seconds: How long to go on; at least five rounds.

    Returns:
        Medians: milliseconds of an iteration and of a record, and what a monitor adds to ``EVERY``
        iterations, as a part of their time, with quartiles.
    """
    torch.set_num_threads(config["threads"])
    build, shape = MODELS[config["model"]]
    model = build()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator)
    targets = torch.randint(0, 10, shape[:1], generator=generator)
    optimizer = DWFOptimizer(
        model.parameters(), lr=LR, momentum=MOMENTUM, penalty=PENALTY, depth=config["depth"]
    )

    def iterations(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start

    def watched() -> float:
        with Monitor(optimizer, every=EVERY):
            return iterations(EVERY)

    records: list[float] = []

    def plain() -> float:
        took = iterations(EVERY)
        with Monitor(optimizer) as monitor:
            records.append(_time(monitor.record))
        return took

    iterations(3)
    times = take_turns({"plain": plain, "watched": watched}, "plain", seconds, least=5)
    added, quartiles = median_and_quartiles([ratio - 1 for ratio in ratios(times, "watched", "plain")])
    iteration = statistics.median(times["plain"].values()) / EVERY
    record = statistics.median(records)
    return {
        "rounds": len(times["plain"]),
        "every": EVERY,
        "batch": shape[0],
        "iteration": 1e3 * iteration,
        "record": 1e3 * record,
        "share": record / (EVERY * iteration),
        "added": added,
        "quartiles": quartiles,
    }


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(records: Records) -> str:
    """Write the Markdown page."""
    rows = [
        [
            row[CONFIG]["model"],
            *(str(value) for value in (row[CONFIG]["depth"], row[RESULT]["batch"])),
            *(f"{row[RESULT][name]:.2f}" for name in ("iteration", "record")),
            f"{100 * row[RESULT]['share']:.2f}",
            f"{100 * row[RESULT]['added']:.2f}",
            " to ".join(f"{100 * value:.2f}" for value in row[RESULT]["quartiles"]),
            str(row[RESULT]["rounds"]),
        ]
        for row in records.rows
    ]
    worst = max((row[RESULT]["share"] for row in records.rows), default=0.0)
    header = [
        "model",
        "depth",
        "batch",
        "iteration, ms",
        "record, ms",
        f"record / {EVERY} iterations, %",
    ]
    return f"""\
# What watching costs

Made by `python -m benchmarks.monitor` from `monitor.jsonl`. {records.provenance()}

A `Monitor` looks every {EVERY} steps, its default. A record is timed by itself, after {EVERY}
iterations (forward, backward, step, zero_grad; SGD with momentum). "Added" is what a monitor added to
runs of {EVERY} iterations, which took turns with runs without one: the median, and between which values
half of the rounds lie.

Limit: {100 * LIMIT:g} %; the largest share of records is {100 * worst:.2f} %:
**{"met" if worst <= LIMIT else "missed"}**.

{table([*header, "added, %", "half of the rounds", "rounds"], rows)}"""


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each configuration")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="dwf_optim")  # rates for timing train nothing
    records = Records(options.out / "monitor.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if not records.has(config):
            records.add(config, measure(config, options.seconds))
    write_text(options.out / "monitor.md", report(records))


if __name__ == "__main__":
    main()
