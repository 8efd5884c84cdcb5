"""``python -m benchmarks.structured run | time | report [SETUP ...]``; what has been done is skipped.

Runs are kept in ``results/structured.jsonl``, times in ``structured_speed.jsonl``; from both the page
and the figure are made anew. Without names, `run` makes what a CPU affords.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.data import add_data_argument
from benchmarks.records import RESULTS, Records, write_text
from benchmarks.structured.figure import write_points
from benchmarks.structured.methods import METHODS
from benchmarks.structured.report import report
from benchmarks.structured.setups import SETUPS
from benchmarks.structured.speed import time_missing
from benchmarks.structured.trial import configurations, run

FOR_A_GPU = ("vgg-16", "resnet-18")
ON_A_CPU = tuple(name for name in SETUPS if name not in FOR_A_GPU)


def main(arguments: list[str] | None = None) -> None:
    """Run or time what is missing, if asked to, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structured", description=__doc__)
    parser.add_argument("command", nargs="?", default="run", choices=("run", "time", "report"))
    parser.add_argument("setup", nargs="*", help=f"of {', '.join(SETUPS)} (default: all for a CPU)")
    parser.add_argument("--method", action="append", choices=sorted(METHODS), help="only this one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each timing")
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    if unknown := set(options.setup) - set(SETUPS):
        parser.error(f"there is no setup {sorted(unknown)}; there are {', '.join(SETUPS)}")
    torch.set_num_threads(1)
    records = Records(options.out / "structured.jsonl")
    timings = Records(options.out / "structured_speed.jsonl")
    for name in options.setup or ON_A_CPU:
        if options.command == "run":
            run_missing(name, records, options.data, options.method)
        elif options.command == "time":
            time_missing(name, records, timings, options.seconds)
    # Another process may have added to them.
    records, timings = Records(records.path), Records(timings.path)
    write_text(options.out / "structured.md", report(records, timings))
    write_points(options.out / "structured.png", records)
    print(f"wrote {options.out / 'structured.md'} and .png: {len(records.rows)} runs")


def run_missing(setup: str, records: Records, folder: Path, methods: list[str] | None = None) -> None:
    """Make the runs of a setup that there are no rows of.

    Args:
        setup: In `SETUPS`.
        records: Grows run by run.
        folder: Of data files.
        methods: Only these.
    """
    load = functools.cache(SETUPS[setup].load)
    missing = [
        config
        for config in configurations(setup)
        if not records.has(config) and (not methods or config["method"] in methods)
    ]
    for config in tqdm(missing, desc=setup, unit="run"):
        records.add(config, run(config, load(folder)))


if __name__ == "__main__":
    main()
