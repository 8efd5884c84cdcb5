"""What does watching a run cost, and how often may one look for 1 % of its time?

Run as ``python -m benchmarks.monitor``; what is in ``results/monitor.jsonl`` is skipped. Iterations and
records take turns in one process.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.iteration import LR, MODELS, MOMENTUM, PENALTY
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.turns import median_and_quartiles, take_turns
from dwf_optim import DWFOptimizer, Monitor

LIMIT = 0.01
# The monitor's default, and how many iterations lie between two records here: as many as put the
# factors out of the way of the next one.
EVERY, BETWEEN = 200, 20


def configurations() -> list[dict[str, Any]]:
    """List all that is measured."""
    pairs = [("MLP 784-300-100-10", depth) for depth in (2, 3, 4)] + [("LeNet-5", 3)]
    return [{"model": model, "depth": depth, "threads": 1} for model, depth in pairs]


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time iterations, and records between them.

    Args:
        config: One of `configurations`.
        seconds: How long to go on; at least five rounds.

    Returns:
        Milliseconds of an iteration and of a record, medians with quartiles, and the part of the time of
        ``EVERY`` iterations that a record takes.
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
    monitor = Monitor(optimizer, every=10**9)  # it counts steps, as always, and looks when told to

    def iterations() -> float:
        start = time.perf_counter()
        for _ in range(BETWEEN):
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        return (time.perf_counter() - start) / BETWEEN

    def record() -> float:
        start = time.perf_counter()
        monitor.record()
        return time.perf_counter() - start

    iterations()
    times = take_turns({"iteration": iterations, "record": record}, "iteration", seconds, least=5)
    made: dict[str, Any] = {"rounds": len(times["iteration"]), "every": EVERY, "batch": shape[0]}
    for name, values in times.items():
        middle, quartiles = median_and_quartiles([1e3 * value for value in values.values()])
        made[name] = middle
        made[f"{name} quartiles"] = quartiles
    made["share"] = made["record"] / (EVERY * made["iteration"])
    return made


def report(records: Records) -> str:
    """Write the Markdown page."""
    rows = [
        [
            row[CONFIG]["model"],
            *(str(value) for value in (row[CONFIG]["depth"], row[RESULT]["batch"])),
            *(_time(row[RESULT], name) for name in ("iteration", "record")),
            f"{100 * row[RESULT]['share']:.2f}",
            str(row[RESULT]["rounds"]),
        ]
        for row in records.rows
    ]
    worst = max((row[RESULT]["share"] for row in records.rows), default=0.0)
    header = ["model", "depth", "batch", "iteration, ms", "record, ms", "share, %", "rounds"]
    return f"""\
# What watching costs

Made by `python -m benchmarks.monitor` from `monitor.jsonl`. {records.provenance()}

A `Monitor` looks every {EVERY} steps, its default. An iteration is forward, backward, step and
zero_grad, with SGD and momentum; a record is timed after every {BETWEEN} of them. Medians, in brackets
between which values half of the rounds lie. The share is that of one record in {EVERY} iterations.

Limit: {100 * LIMIT:g} %; the largest share is {100 * worst:.2f} %:
**{"met" if worst <= LIMIT else "missed"}**.

{table(header, rows)}"""


def _time(result: dict[str, Any], name: str) -> str:
    low, high = result[f"{name} quartiles"]
    return f"{result[name]:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each configuration")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="dwf_optim")  # rates for timing train nothing
    records = Records(options.out / "monitor.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if not records.has(config):
            records.add(config, measure(config, options.seconds))
    write_text(options.out / "monitor.md", report(records))


if __name__ == "__main__":
    main()
