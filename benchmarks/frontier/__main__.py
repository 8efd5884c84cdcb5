"""``python -m benchmarks.frontier run | report | smoke EXPERIMENT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.data import add_data_argument
from benchmarks.frontier.experiments import EXPERIMENTS
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.report import write_report
from benchmarks.frontier.runner import run_experiment
from benchmarks.frontier.smoke import run_smoke, write_smoke
from benchmarks.records import RESULTS, Records


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, if asked to, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument(
        "command",
        choices=("run", "report", "smoke"),
        help="run what is missing and report; report what there is; run two epochs on a few samples",
    )
    parser.add_argument("experiment", nargs="*", metavar="experiment", help=", ".join(EXPERIMENTS))
    parser.add_argument("--method", action="append", choices=sorted(METHODS), help="only this one")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "frontier", help="folder of results")
    add_data_argument(parser)
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    if unknown := set(options.experiment) - EXPERIMENTS.keys():
        parser.error(f"unknown experiment {sorted(unknown)}; there are {', '.join(EXPERIMENTS)}")
    if options.command == "run" and not options.experiment:
        parser.error("all experiments together take weeks: name those to run")
    names = options.experiment or list(EXPERIMENTS)
    if options.command == "smoke":
        records = Records(options.out / "smoke.jsonl")
        run_smoke(names, records, options.data)
        write_smoke(records, options.out)
        print(f"wrote {options.out / 'smoke.md'}")
        return
    for name in names:
        experiment, path = EXPERIMENTS[name], options.out / f"{name}.jsonl"
        if options.command == "run":
            run_experiment(experiment, path, options.data, options.jobs, options.method)
        if write_report(name, experiment, Records(path), options.out):
            print(f"wrote {options.out / name}.md, .csv and .png")
        else:
            print(f"no complete runs of {name} yet: python -m benchmarks.frontier run {name}")
    if not options.experiment:
        write_smoke(Records(options.out / "smoke.jsonl"), options.out)


if __name__ == "__main__":
    main()
