"""Runs what is missing: resumable, in one process or several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import Data
from benchmarks.frontier.datasets import load
from benchmarks.frontier.experiments import Config, Experiment, key
from benchmarks.frontier.metric import metric_of
from benchmarks.frontier.trial import device, run
from benchmarks.records import CONFIG, RESULT, Records

Choice = dict[tuple[str, float], tuple[float, float]]

# Of a worker process: what it has loaded.
_data: list[Data] = []


def run_experiment(
    experiment: Experiment, path: Path, data: Path, jobs: int = 1, methods: Iterable[str] | None = None
) -> None:
    """Tune every method, then run what was chosen on all seeds.

    Args:
        experiment: Which.
        path: JSONL; what it has is skipped, and it grows run by run.
        data: Folder of data files.
        jobs: Processes, one thread each; on a GPU they share it.
        methods: Only these.
    """
    _run(experiment.tuning(methods), experiment, path, data, jobs, "tuning")
    chosen = choose(experiment, Records(path), methods)
    _run(experiment.final(chosen), experiment, path, data, jobs, "final")


def choose(experiment: Experiment, records: Records, methods: Iterable[str] | None = None) -> Choice:
    """Return the rate and strength that are best on validation, for every method and compression.

    Args:
        experiment: Which.
        records: Its runs; a choice is made only when all runs of a method's tuning are there.
        methods: Only these.
    """
    results = {key(row[CONFIG]): row for row in records.rows}
    metric = metric_of(experiment.data)
    best: dict[tuple[str, float], tuple[float, tuple[float, float]]] = {}
    wanted = {name: experiment.tuning([name]) for name in methods or experiment.methods}
    for name, configs in wanted.items():
        if any(key(config) not in results for config in configs):
            continue
        for config in configs:
            for point in results[key(config)][RESULT]["points"]:
                place = name, point["compression"]
                tried = -metric.of(point), (config["lr"], config["strength"])
                best[place] = max(best.get(place, tried), tried)
    return {place: setting for place, (_, setting) in best.items()}


def _run(
    configs: list[Config], experiment: Experiment, path: Path, data: Path, jobs: int, what: str
) -> None:
    records = Records(path)
    done = {key(row[CONFIG]) for row in records.rows}
    missing = [config for config in configs if key(config) not in done]
    with tqdm(total=len(configs), initial=len(configs) - len(missing), desc=what, unit="run") as bar:
        for config, result in _results(missing, experiment.data, data, jobs):
            records.add(config, result)
            bar.update()


def _results(
    configs: list[Config], name: str, data: Path, jobs: int
) -> Iterator[tuple[Config, dict[str, Any]]]:
    if not configs:
        return
    if jobs == 1:
        _start(name, data)
        yield from ((config, _work(config)) for config in configs)
        return
    # Spawned, because a forked process cannot use a GPU that its parent has used.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (name, data)) as pool:
        futures = {pool.submit(_work, config): config for config in configs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _start(name: str, data: Path) -> None:
    torch.set_num_threads(1)
    # Weights on their way to zero pass through numbers with which a processor is many times slower.
    torch.set_flush_denormal(True)
    _data[:] = [load(name, data, device())]


def _work(config: Config) -> dict[str, Any]:
    return run(config, _data[0])
