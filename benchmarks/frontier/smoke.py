"""Two epochs of every experiment on a few samples: does all that a long run needs work here?"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from benchmarks.frontier.datasets import load
from benchmarks.frontier.experiments import EXPERIMENTS, Config, key
from benchmarks.frontier.metric import metric_of
from benchmarks.frontier.trial import device, run
from benchmarks.records import CONFIG, RESULT, Records, table, write_text

# One method that works while the network trains, and one that works before.
METHODS = ("dwf-3", "snip")
EPOCHS, SAMPLES, BATCH_SIZE = 2, 128, 32


def configuration(name: str, method: str) -> Config:
    """Return an experiment's first run of a method, made short."""
    experiment = EXPERIMENTS[name]
    short = replace(
        experiment,
        epochs=EPOCHS,
        samples=SAMPLES,
        batch_size=min(BATCH_SIZE, experiment.batch_size),
        compressions=experiment.compressions[:1],
    )
    return short.tuning([method])[0]


def run_smoke(names: Iterable[str], records: Records, data: Path) -> None:
    """Run what is missing.

    Args:
        names: Of experiments.
        records: Grow run by run.
        data: Folder of data files.
    """
    wanted = [configuration(name, method) for name in names for method in METHODS]
    done = {key(row[CONFIG]) for row in records.rows}
    loaded = functools.lru_cache(maxsize=1)(lambda name: load(name, data, device()))
    for config in tqdm([config for config in wanted if key(config) not in done], unit="run"):
        records.add(config, run(config, loaded(config["data"])))


def write_smoke(records: Records, out: Path) -> None:
    """Write smoke.md into a folder."""
    by_key = {key(row[CONFIG]): row for row in records.rows}
    rows = []
    for name, method in ((name, method) for name in EXPERIMENTS for method in METHODS):
        row = by_key.get(key(configuration(name, method)))
        if row is None:
            rows.append([name, method, *["not run"] * 4])
            continue
        result = row[RESULT]
        metric = metric_of(row[CONFIG]["data"])
        for point in result["points"] or [None]:
            found = f"{metric.text(metric.of(point))} {metric.unit}".strip() if point else "diverged"
            reached = f"{point['reached']:.2f}" if point else ""
            rows.append([name, method, f"{result['seconds']:.0f}", reached, metric.name, found])
    header = ["experiment", "method", "seconds", "compression", "metric", "validation"]
    made = records.provenance() if records.rows else ""
    text = f"""# Smoke runs of the frontier

Made by `python -m benchmarks.frontier smoke` from `smoke.jsonl`. {made}

{EPOCHS} epochs on {SAMPLES} samples in batches of at most {BATCH_SIZE}, at the experiment's lowest
compression, by one method that works while the network trains and one that works before. They show that
networks, loaders and loops work from end to end, and **are no results**: eight steps or so teach a
network next to nothing. Seconds are of a busy machine.

{table(header, rows)}"""
    write_text(out / "smoke.md", text)
