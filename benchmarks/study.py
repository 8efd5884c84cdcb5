"""The command line of a study: training runs on one data set, from which a page is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument
from benchmarks.records import RESULTS, Records, write_text

Config = dict[str, Any]


def main(
    name: str,
    description: str | None,
    configurations: Iterable[Config],
    load: Callable[[Path], Data],
    run: Callable[[Config, Data], dict[str, Any]],
    report: Callable[[Records], str],
) -> None:
    """Run what is missing on one thread, and write the page after every run.

    Args:
        name: Of the files: ``NAME.jsonl`` and ``NAME.md``.
        description: For ``--help``.
        configurations: All of them; those that are in the records are skipped.
        load: From a folder; called only when there is something to run.
        run: One configuration to its result.
        report: All records to the page.
    """
    parser = argparse.ArgumentParser(description=description)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records, page = Records(options.out / f"{name}.jsonl"), options.out / f"{name}.md"
    missing = [config for config in configurations if not records.has(config)]
    if missing:
        data = load(options.data)
        for config in tqdm(missing, unit="run"):
            records.add(config, run(config, data))
            write_text(page, report(records))
    write_text(page, report(records))
    print(f"wrote {page}")
