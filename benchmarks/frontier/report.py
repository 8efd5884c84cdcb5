"""Tables and figure of an experiment, from its runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import figures
from benchmarks.frontier.experiments import Experiment, grid, key
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.published import PUBLISHED
from benchmarks.frontier.runner import choose
from benchmarks.records import CONFIG, RESULT, Records, table, write_text

COLOURS = {"dwf-2": "#009e73", "dwf-3": figures.SPARSE, "dwf-4": figures.ACCENT}
OTHERS = ("#cc79a7", "#56b4e9", "#e69f00", "#7a828e", "#a0522d", "#6a5acd", "#2f4f4f", "#b0b0b0")


class Point(NamedTuple):
    """A method at a compression: test errors in percent, one a seed, and what was chosen for it."""

    errors: tuple[float, ...]
    lr: float
    strength: float


Points = dict[str, dict[float, Point]]


def points_of(experiment: Experiment, records: Records) -> Points:
    """Collect the final runs; a point is there when all its seeds are."""
    results = {key(row[CONFIG]): row for row in records.rows}
    found: dict[tuple[str, float], list[float]] = {}
    chosen = choose(experiment, records)
    for config in experiment.final(chosen):
        row = results.get(key(config))
        for point in row[RESULT]["points"] if row else ():
            errors = found.setdefault((config["method"], point["compression"]), [])
            errors.append(100 * (1 - point["accuracy"]))
    made: Points = {}
    for (name, compression), errors in sorted(found.items()):
        if len(errors) == len(experiment.seeds):
            point = Point(tuple(errors), *chosen[name, compression])
            made.setdefault(name, {})[compression] = point
    return {name: made[name] for name in experiment.methods if name in made}


def write_report(name: str, experiment: Experiment, records: Records, out: Path) -> bool:
    """Write NAME.md, NAME.csv and NAME.png into a folder; say whether there was anything to write."""
    points = points_of(experiment, records)
    if not points:
        return False
    write_text(out / f"{name}.csv", to_csv(points))
    write_text(out / f"{name}.md", to_markdown(name, experiment, records, points))
    figures.write_figure(out / f"{name}.png", draw(experiment, points))
    return True


def to_csv(points: Points) -> str:
    """Write every point on a line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "compression", "error", "lowest", "highest", "seeds", "lr", "strength"])
    for name, line in points.items():
        for compression, (errors, lr, strength) in line.items():
            numbers = [f"{value:.4g}" for value in (mean(errors), min(errors), max(errors))]
            writer.writerow([name, f"{compression:g}", *numbers, len(errors), lr, strength])
    return text.getvalue()


def to_markdown(name: str, experiment: Experiment, records: Records, points: Points) -> str:
    """Write the page."""
    hours = sum(row[RESULT]["seconds"] for row in records.rows) / 3600
    compressions = experiment.compressions
    cells = {
        method: [_cell(line.get(compression), points, compression) for compression in compressions]
        for method, line in points.items()
    }
    header = ["method", *(f"{compression:g}" for compression in compressions)]
    dense = points.get("dense", {}).get(1.0)
    budget = ", ".join(f"{method}: {len(grid(method))}" for method in points)
    return "\n".join(
        [
            f"# {experiment.network} on {experiment.data}\n",
            f"Made by `python -m benchmarks.frontier run {name}` ({len(records.rows)} runs, {hours:.1f} "
            f"hours), and again from `{name}.jsonl` by `report`. {records.provenance()}\n",
            f"Test error in percent at compression (all weights over nonzero ones; biases and norms are "
            f"not counted), mean of {len(experiment.seeds)} seeds, in brackets the lowest and the "
            f"highest. Bold: lowest of its column.{_dense(dense)}\n",
            f"{experiment.epochs} epochs, batch {experiment.batch_size}, momentum "
            f"{experiment.momentum:g}, one cosine schedule, the same order of data for all methods. "
            "Rate and strength are chosen at each compression by the accuracy on training images that "
            "are held out; the test set is seen by the final runs only. Runs tried at each compression: "
            f"{budget}.\n",
            f"![test error against compression]({name}.png)\n",
            table(header, [[method, *line] for method, line in cells.items() if method != "dense"]),
            "## Methods\n",
            *(_method(method) for method in points),
            *_published(experiment),
        ]
    )


def draw(experiment: Experiment, points: Points) -> Any:
    """Draw test error against compression, a line a method, and what is published."""
    figure, axis = figures.panels(figsize=(8.2, 5.4))
    rest = iter(OTHERS)
    for name, line in points.items():
        means = {compression: mean(point.errors) for compression, point in line.items()}
        if name == "dense":
            axis.axhline(means[1.0], color=figures.DENSE, ls=":", lw=1.4, label="dense")
            continue
        colour = COLOURS.get(name) or next(rest, figures.DENSE)
        errors = [point.errors for point in line.values()]
        axis.plot(list(means), list(means.values()), "o-", ms=4, color=colour, label=name)
        axis.fill_between(
            list(means),
            [min(e) for e in errors],
            [max(e) for e in errors],
            color=colour,
            alpha=0.15,
            lw=0,
        )
    for name, published in PUBLISHED.get((experiment.network, experiment.data), {}).items():
        axis.plot(*zip(*published, strict=True), "x--", color=figures.INK, ms=7, mew=1.6, lw=0.8)
        axis.annotate(name, published[-1], xytext=(5, 5), textcoords="offset points", fontsize=8.5)
    best = min(mean(point.errors) for line in points.values() for point in line.values())
    axis.set(
        title=f"{experiment.network} on {experiment.data}",
        xlabel="compression (weights / nonzero weights)",
        ylabel="test error, %",
        yscale="log",
        ylim=(0.8 * best, 100),
    )
    figures.plain_log(axis.xaxis, experiment.compressions, "×")
    figures.plain_log(axis.yaxis, [x for x in (1, 2, 3, 5, 10, 20, 50, 100) if x > 0.8 * best], " %")
    axis.legend(loc="upper left", ncols=2)
    return figure


def _cell(point: Point | None, points: Points, compression: float) -> str:
    if point is None:
        return "–"
    lowest = min(mean(line[compression].errors) for line in points.values() if compression in line)
    text = f"{mean(point.errors):.2f}"
    text = f"**{text}**" if mean(point.errors) == lowest else text
    spread = f" ({min(point.errors):.2f} to {max(point.errors):.2f})" if len(point.errors) > 1 else ""
    return text + spread


def _dense(point: Point | None) -> str:
    return f" Dense: {mean(point.errors):.2f}." if point else ""


def _method(name: str) -> str:
    kind = METHODS[name]
    about = (kind.__doc__ or "").partition("\n")[0]
    source = f" {kind.source}." if kind.source else ""
    deviation = f" Here: {kind.deviation}." if kind.deviation else ""
    return f"- **{name}**: {about}{source}{deviation}"


def _published(experiment: Experiment) -> list[str]:
    published = PUBLISHED.get((experiment.network, experiment.data), {})
    lines = [
        [name, f"{compression:g}", f"{error:.2f}"]
        for name, line in published.items()
        for compression, error in line
    ]
    return ["\n## Published\n", table(["method", "compression", "error, %"], lines)] if lines else []
