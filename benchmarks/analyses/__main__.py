"""``python -m benchmarks.analyses run | report``: all analyses, or those that are named."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from benchmarks.analyses import (
    cost,
    depths,
    generalization,
    initialization,
    layers,
    misalignment,
    onset,
    rates,
)
from benchmarks.analyses.analysis import Analysis, Runs
from benchmarks.analyses.runs import run_missing, setting
from benchmarks.data import add_data_argument
from benchmarks.figures import write_figure
from benchmarks.records import RESULTS, Records, write_text

# In the order in which their runs are made.
ANALYSES: dict[str, Analysis] = {
    "layers": layers,
    "initialization": initialization,
    "misalignment": misalignment,
    "rates": rates,
    "depths": depths,
    "onset": onset,
    "generalization": generalization,
    "cost": cost,
}


def report(name: str, records: Records, out: Path) -> None:
    """Write an analysis's NAME.md and NAME.png into a folder."""
    analysis, runs = ANALYSES[name], Runs(records)
    configs = analysis.configurations()
    title, _, rest = analysis.page(runs).partition("\n")
    about = f"\n{runs.lacking(configs)}\n{setting(records)}\n" if configs else ""
    write_text(out / f"{name}.md", f"{title}\n{about}{rest}")
    write_figure(out / f"{name}.png", analysis.draw(runs))


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, if asked to, and write the pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analyses", description=__doc__)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("analysis", nargs="*", metavar="analysis", help=", ".join(ANALYSES))
    parser.add_argument("--out", type=Path, default=RESULTS / "analyses", help="folder of results")
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    names = options.analysis or list(ANALYSES)
    if unknown := set(names) - ANALYSES.keys():
        parser.error(f"unknown analysis {sorted(unknown)}; there are {', '.join(ANALYSES)}")
    records = Records(options.out / "runs.jsonl")
    if options.command == "run":
        wanted = itertools.chain.from_iterable(ANALYSES[name].configurations() for name in names)
        run_missing(wanted, records, options.data)
    for name in names:
        report(name, records, options.out)
    print(f"wrote {', '.join(f'{name}.md' for name in names)} and figures into {options.out}")


if __name__ == "__main__":
    main()
