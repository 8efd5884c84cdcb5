"""How long does an optimizer step take, against torch's fused dense step and the memory's own limit?

Run as ``python -m benchmarks.step``; what is in ``results/step.jsonl`` is skipped. Every way to step
takes its turn in every round, in one process, and ratios are medians over rounds: other load on the
machine then hits all alike. Peak memory is measured in processes of its own (`benchmarks.step_memory`).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import step_memory
from benchmarks.records import RESULTS, Records
from benchmarks.shapes import SETS, elements
from benchmarks.step_report import write_report
from benchmarks.step_ways import (
    BASES,
    DENSE,
    FLOAT,
    STREAM,
    Config,
    footprint,
    make_ways,
    moved,
    paths_of,
    streamed,
)
from benchmarks.turns import median_and_quartiles, ratios, take_turns
from dwf_optim.storage import STORAGES

DEPTHS = (1, 2, 3, 4)
THREADS = (1, 2)
# Where the storages of one root are timed at other depths than this one.
USUAL_DEPTH, ALL_DEPTHS = 3, ("resnet18",)


def configurations(memory: float) -> list[Config]:
    """List what fits into so many GB, the usual depth first."""
    keys = ("depth", "set", "base", "storage", "threads")
    depths = sorted(DEPTHS, key=lambda depth: depth != USUAL_DEPTH)
    configs = [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(depths, SETS, BASES, STORAGES, THREADS)
    ]
    return [config for config in configs if _is_wanted(config) and footprint(config) <= memory * 1e9]


def _is_wanted(config: Config) -> bool:
    if config["storage"] == "full" or config["depth"] == USUAL_DEPTH:
        return True
    return config["depth"] > 1 and config["set"] in ALL_DEPTHS


def measure(config: Config, seconds: float, memory: float) -> dict[str, Any]:
    """Time every way to step, and the stream, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on; at least three rounds.
        memory: In GB; ways that need more are left out.

    Returns:
        For every way the median milliseconds, the median ratio to the dense step with quartiles, and the
        share of the stream's bandwidth; the stream's GB/s.
    """
    torch.set_num_threads(config["threads"])
    paths = paths_of(config, memory)
    ways = make_ways(config, paths)
    for way in ways.values():  # makes states, compiles, touches memory
        way()
    times = take_turns(ways, DENSE, seconds)
    result: dict[str, Any] = {"rounds": len(times[DENSE])}
    floats = streamed(config)
    work = moved(config) * elements(config["set"]) / (2 * FLOAT * floats)
    for name in (DENSE, *paths):
        ratio, quartiles = median_and_quartiles(ratios(times, name, DENSE))
        result[name] = {
            "ms": 1e3 * statistics.median(times[name].values()),
            "ratio": ratio,
            "quartiles": list(quartiles),
        }
    for name in paths:
        result[name]["of_stream"] = work * statistics.median(ratios(times, STREAM, name))
    result["bandwidth"] = 2 * FLOAT * floats / statistics.median(times[STREAM].values()) / 1e9
    return result


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--memory", type=float, default=6.0, help="GB; what needs more is left out")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each configuration, about")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. set=lenet300"
    )
    arguments = parser.parse_args()
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "step.jsonl")
    peaks = Records(arguments.out / "step_memory.jsonl")
    if not wanted:
        for config in tqdm(step_memory.configurations(), unit="peak"):
            if not peaks.has(config):
                peaks.add(config, step_memory.in_a_process(config))
    for config in tqdm(configurations(arguments.memory), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.seconds, arguments.memory))
    write_report(records, peaks, arguments.out)
    if records.rows:
        print((arguments.out / "step.md").read_text())


if __name__ == "__main__":
    main()
