"""Tables of an experiment, from its runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from statistics import mean

from benchmarks import figures
from benchmarks.frontier.experiments import LRS, Experiment, key
from benchmarks.frontier.figure import draw
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.metric import Metric, metric_of
from benchmarks.frontier.points import Point, Points, points_of
from benchmarks.frontier.verdicts import against_others, against_published
from benchmarks.records import CONFIG, RESULT, Records, table, write_text


def write_report(name: str, experiment: Experiment, records: Records, out: Path) -> bool:
    """Write NAME.md, NAME.csv and NAME.png into a folder.

    Returns:
        Whether there are points; otherwise there is NAME.md only, which says what is not run.
    """
    points = points_of(experiment, records)
    write_text(out / f"{name}.md", to_markdown(name, experiment, records, points))
    if points:
        write_text(out / f"{name}.csv", to_csv(points, metric_of(experiment.data)))
        figures.write_figure(out / f"{name}.png", draw(experiment, points))
    return bool(points)


def to_csv(points: Points, metric: Metric) -> str:
    """Write every point on a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "compression", metric.name, "lowest", "highest", "seeds", "lr", "strength"]
    )
    for name, line in points.items():
        for compression, (values, lr, strength) in line.items():
            numbers = [f"{value:.4g}" for value in (mean(values), min(values), max(values))]
            writer.writerow([name, f"{compression:g}", *numbers, len(values), lr, strength])
    return text.getvalue()


def to_markdown(name: str, experiment: Experiment, records: Records, points: Points) -> str:
    """Write the page."""
    metric, compressions = metric_of(experiment.data), experiment.compressions
    cells = {
        method: [
            _cell(line.get(compression), points, compression, metric) for compression in compressions
        ]
        for method, line in points.items()
    }
    header = ["method", *(f"{compression:g}" for compression in compressions)]
    title = f"# {experiment.network} on {experiment.data}\n"
    if not points:
        return "\n".join(
            [title, _not_run(name, experiment, records), *against_published(experiment, points)]
        )
    return "\n".join(
        [
            title,
            *_about(name, experiment, records, points),
            f"![{metric.name} on the test set against compression]({name}.png)\n",
            "Bars: from the lowest to the highest seed. What leaves the figure is in the table.\n",
            table(header, [[method, *line] for method, line in cells.items() if method != "dense"]),
            *against_others(experiment, points),
            *against_published(experiment, points),
            "## Methods\n",
            *(_method(method) for method in experiment.methods),
            "",
        ]
    )


def _about(name: str, experiment: Experiment, records: Records, points: Points) -> list[str]:
    metric, seeds = metric_of(experiment.data), len(experiment.seeds)
    what = metric.name.capitalize() + " on the test set" + (" in percent" if metric.unit else "")
    spread = f"mean of {seeds} seeds, in brackets lowest and highest" if seeds > 1 else "one seed"
    dense = points.get("dense", {}).get(1.0)
    level = f" Dense: {metric.text(mean(dense.values))}." if dense else ""
    missing = [method for method in experiment.methods if method not in points]
    hours = sum(row[RESULT]["seconds"] for row in records.rows) / 3600
    return [
        f"Made by `python -m benchmarks.frontier run {name}` ({len(records.rows)} runs, {hours:.1f} "
        f"hours), and again from `{name}.jsonl` by `report`. {records.provenance()}\n",
        f"**Not run yet: {', '.join(missing)}.**\n" if missing else "",
        f"{what}, at compression (all weights over nonzero ones; biases and norms are not counted), "
        f"{spread}. Bold: lowest of its column.{level}\n",
        _protocol(experiment),
    ]


def _protocol(experiment: Experiment) -> str:
    parts = [
        f"{experiment.epochs} epochs",
        f"the first {experiment.samples} samples" if experiment.samples else "",
        f"batch {experiment.batch_size}",
        f"momentum {experiment.momentum:g}",
        f"gradients clipped to norm {experiment.clip:g}" if experiment.clip else "",
        "crops and flips" if experiment.augment else "",
        "one cosine schedule",
    ]
    rates, few = (", ".join(f"{rate:g}" for rate in each) for each in (LRS, experiment.rates))
    return (
        f"{', '.join(part for part in parts if part)}, the same order of data for all methods. Rate and "
        "strength are chosen at each compression on samples that are held out from training; the test "
        f"set is seen by the final runs only. Tried at each compression: {len(LRS)} rates ({rates}), "
        f"or, by methods that have a strength, four strengths at {len(experiment.rates)} ({few}). "
        f"{experiment.note}\n"
    )


def _not_run(name: str, experiment: Experiment, records: Records) -> str:
    tuning = {key(config) for config in experiment.tuning()}
    there = len(tuning & {key(row[CONFIG]) for row in records.rows})
    return (
        f"**Not run yet.** By `python -m benchmarks.frontier run {name}`, {experiment.epochs} epochs a "
        f"run. Runs to choose rates and strengths by: {len(tuning)}, of which {there} are there. "
        f"{experiment.note}\n"
    )


def _cell(point: Point | None, points: Points, compression: float, metric: Metric) -> str:
    if point is None:
        return "–"
    lowest = min(mean(line[compression].values) for line in points.values() if compression in line)
    text = metric.text(mean(point.values))
    text = f"**{text}**" if mean(point.values) == lowest else text
    spread = f" ({metric.text(min(point.values))} to {metric.text(max(point.values))})"
    return text + (spread if len(point.values) > 1 else "")


def _method(name: str) -> str:
    kind = METHODS[name]
    about = (kind.__doc__ or "").partition("\n")[0]
    source = f" {kind.source[0].upper()}{kind.source[1:]}." if kind.source else ""
    deviation = f" Here: {kind.deviation}." if kind.deviation else ""
    return f"- **{name}**: {about}{source}{deviation}"
