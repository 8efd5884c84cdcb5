"""The command line of benchmarks that measure one configuration after the other and write a page."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.records import RESULTS, Records

Config = dict[str, Any]


def run_cells(
    name: str,
    description: str | None,
    configurations: Iterable[Config],
    measure: Callable[[Config, float], dict[str, Any]],
    write_report: Callable[[Records, Path], None],
) -> None:
    """Run what is missing in ``<name>.jsonl`` and write the page.

    Args:
        name: Of the file of records.
        description: For ``--help``.
        configurations: What to measure, in order.
        measure: Takes a configuration and the seconds to spend on it.
        write_report: Takes the records and the folder of the page.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each configuration")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. batch=64")
    parser.add_argument("--most", type=float, default=float("inf"), help="seconds after which to stop")
    arguments = parser.parse_args()
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / f"{name}.jsonl")
    deadline = time.perf_counter() + arguments.most
    for config in tqdm(list(configurations), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        if time.perf_counter() > deadline:
            break
        records.add(config, measure(config, arguments.seconds))
    write_report(records, arguments.out)
