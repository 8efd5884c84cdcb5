"""The page of this benchmark."""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table
from benchmarks.structured.choice import ALLOWED, Chosen, all_chosen, choose, reference, rows_of
from benchmarks.structured.methods import METHODS
from benchmarks.structured.published import PUBLISHED
from benchmarks.structured.setups import SETUPS, Setup
from benchmarks.structured.speed import RUNTIMES
from benchmarks.structured.trial import configurations
from benchmarks.structured.units import Units

INTRODUCTION = """
Each method trains a network; its units (filters, neurons, inputs, heads) are then removed, from the
least on, to one share of them after another, and `inference.shrink` makes a plain dense network of what
is left. DWF and the dense network are cut and measured; the baselines, and DWF where it says so, spend
the last epochs of the same total on fine-tuning every cut network, with a cosine schedule of its own
from the learning rate in the tables. FLOPs are of one example, by `torch.utils.flop_counter`, of the
smaller network as it is.

A method's entry is the network with the fewest FLOPs, over its penalties and cuts, whose *validation*
accuracy is at most 0.5, 5 or 10 points below that of the dense network trained for as many epochs; the
*test* accuracy stands beside it. What was tried is in the tables of all runs; one
seed. "None" means that no cut is good enough, "not run" that there is no row.

![Accuracy over FLOPs saved](structured.png)
"""


def report(records: Records, timings: Records) -> str:
    """Write the page in Markdown.

    Args:
        records: Runs.
        timings: Milliseconds by setup, method, units and batch.
    """
    lines = ["# Smaller networks", INTRODUCTION]
    for name, setup in SETUPS.items():
        lines += [f"## {setup.title}\n", *_section(name, setup, records, timings)]
    sources = "; ".join(f"{kind.title}: {kind.source}" for kind in METHODS.values() if kind.source)
    made = "Made by `python -m benchmarks.structured run --data DIR`, and then `time`."
    lines += [f"Sources. {sources}.\n", made + (f" {records.provenance()}" if records.rows else "")]
    return "\n".join(lines) + "\n"


def _section(name: str, setup: Setup, records: Records, timings: Records) -> list[str]:
    wanted = configurations(name)
    missing = [config for config in wanted if not records.has(config)]
    lines = [
        f"Units: {setup.what}. {setup.epochs} epochs, the last {setup.finetune} of them fine-tuning "
        f"where a method does; batch {setup.batch_size}, SGD with momentum, lr {setup.lr:g}"
        + "".join(f", {rate:g} for {METHODS[m].title}" for m, rate in setup.rates.items())
        + f". Cuts keep from {max(setup.kept):.0%} down to {min(setup.kept):.0%} of the units. "
        f"{len(wanted) - len(missing)} of {len(wanted)} runs made.\n"
    ]
    best = reference(records, name)
    if best is not None:
        lines += [f"Dense: {best['validation']:.2%} validation, {best['test']:.2%} test.\n"]
    if rows_of(records, name) or name in PUBLISHED:
        lines.append(_summary(name, setup, records))
    if rows_of(records, name):
        lines += ["All runs:\n", _runs(name, records)]
    if times := _timings(name, records, timings):
        lines += [
            "Milliseconds of the networks that the summary names, the full one and the smaller one in "
            "turns, median, one thread:\n",
            times,
        ]
    return lines


def _summary(name: str, setup: Setup, records: Records) -> str:
    header = ["method"]
    for allowed in ALLOWED:
        header += [f"fewer FLOPs, -{100 * allowed:g} points", "test"]
    rows = []
    for method, kind in METHODS.items():
        cells = [kind.title]
        why = kind.lacks(_units(name))
        for allowed in ALLOWED:
            if why or method not in setup.strengths:
                cells += [why or "left out", ""]
            elif not rows_of(records, name, method) or reference(records, name) is None:
                cells += ["not run", ""]
            else:
                cells += _entry(choose(records, name, method, allowed))
        rows.append(cells)
    for title, saved in PUBLISHED.get(name, {}).items():
        rows.append([f"published: {title}", "", "", *(x for s in saved for x in (f"{s:g}x", ""))])
    return table(header, rows)


@functools.cache
def _units(name: str) -> list[Units]:
    """Return the units of a setup's network, which takes seconds to build where it is large."""
    return SETUPS[name].units(SETUPS[name].build(0))


def _entry(chosen: Chosen | None) -> list[str]:
    return ["none", ""] if chosen is None else [f"{chosen.saved:.1f}x", f"{chosen.point['test']:.2%}"]


def _runs(name: str, records: Records) -> str:
    header = (
        *("method", "penalty", "fine-tuning lr", "loss", "test", "units left", "parameters"),
        *("fewer FLOPs", "test after", "validation after"),
    )
    rows = []
    for row in sorted(rows_of(records, name), key=_order):
        config, result = row[CONFIG], row[RESULT]
        rate = f"{config['finetune_lr']:g}" if config["finetune"] else ""
        first = [METHODS[config["method"]].title, f"{config['strength']:g}", rate]
        if not result["points"]:
            rows.append([*first, "diverged", *[""] * 6])
        for point in result["points"]:
            rows.append([*first, f"{result['losses'][-1]:.3f}", f"{result['test']:.2%}", *_point(point)])
            first = ["", "", ""]
    difference = max(
        (point["difference"] for row in rows_of(records, name) for point in row[RESULT]["points"]),
        default=0.0,
    )
    exact = (
        f"\nCut and shrunk networks differ by {difference:.1e} at most in float32, before fine-tuning.\n"
    )
    return table(header, rows) + exact


def _point(point: dict[str, Any]) -> tuple[str, ...]:
    units = point["units"]
    return (
        "-".join(map(str, units)),
        f"{point['parameters'][1]:,}",
        f"{Chosen({}, point).saved:.1f}x",
        f"{point['test']:.2%}",
        f"{point['validation']:.2%}",
    )


def _order(row: dict[str, Any]) -> tuple[int, float]:
    return list(METHODS).index(row[CONFIG]["method"]), row[CONFIG]["strength"]


def _timings(name: str, records: Records, timings: Records) -> str:
    header = ["method", "units left", "batch"]
    for runtime in RUNTIMES:
        header += [f"{runtime}, full", f"{runtime}, small", "faster"]
    # Runs that were made anew may name others than those that were timed.
    named = {(one.config["method"], tuple(one.point["units"])) for one in all_chosen(records, name)}
    rows = []
    for row in timings.rows:
        config, result = row[CONFIG], row[RESULT]
        if config["setup"] != name or (config["method"], tuple(config["units"])) not in named:
            continue
        cells = [
            METHODS[config["method"]].title,
            "-".join(map(str, config["units"])),
            str(config["batch"]),
        ]
        for runtime in RUNTIMES:
            full, small = result[f"full {runtime}"], result[f"small {runtime}"]
            cells += [f"{full:.3f}", f"{small:.3f}", f"{full / small:.1f}x"]
        rows.append(cells)
    return table(header, rows) if rows else ""
