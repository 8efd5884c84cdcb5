"""The figure of an experiment."""

from __future__ import annotations

import itertools
from statistics import mean
from typing import Any

from benchmarks import figures
from benchmarks.frontier.experiments import Experiment
from benchmarks.frontier.metric import metric_of
from benchmarks.frontier.points import Points
from benchmarks.frontier.published import PUBLISHED

# Depths stand out; what has no colour here is grey.
COLOURS = {
    "dwf-2": "#009e73",
    "dwf-3": figures.SPARSE,
    "dwf-4": figures.ACCENT,
    "l1": "#cc79a7",
    "magnitude": "#56b4e9",
    "magnitude-finetuned": "#a6761d",
    "gmp": "#e69f00",
    "snip": "#6a5acd",
    "synflow": "#a0522d",
    "random": "#b0b0b0",
    "pwd-1": "#8fbc8f",
    "pwd-2/3": "#7f9fd0",
    "pwd-1/2": "#e3a07a",
}
# Ticks of the vertical axis, of which those in its range are written.
TICKS = tuple(digit * 10.0**power for power in range(-2, 3) for digit in (1, 2, 3, 5))
# The axis ends at so many times its lowest value, above which no two methods are worth telling apart.
MOST = 15.0
MARKERS = "x*P^"
# Between two methods at one compression, as a part of it.
APART = 0.008


def draw(experiment: Experiment, points: Points) -> Any:
    """Draw the metric against compression, a line a method with the spread of its seeds."""
    metric = metric_of(experiment.data)
    figure, axis = figures.panels(figsize=(9.5, 5.4))
    sparse = [name for name in points if name != "dense"]
    if "dense" in points:
        level = mean(points["dense"][1.0].values)
        axis.axhline(level, color=figures.DENSE, ls=":", lw=1.4, label="dense")
    for place, name in enumerate(sparse):
        ours = name.startswith("dwf-")
        # A little apart, so that no bar hides another.
        apart = 1 + APART * (place - (len(sparse) - 1) / 2)
        means = [mean(point.values) for point in points[name].values()]
        # Not below zero, where rounding of the mean would put equal seeds.
        spread = [
            (max(0.0, mean(v) - min(v)), max(0.0, max(v) - mean(v))) for v, *_ in points[name].values()
        ]
        axis.errorbar(
            [apart * compression for compression in points[name]],
            means,
            list(zip(*spread, strict=True)),
            color=COLOURS.get(name, figures.DENSE),
            label=name,
            marker="o",
            ms=4,
            lw=2.2 if ours else 1.1,
            elinewidth=0.9,
            zorder=3 if ours else 2,
        )
    values = [mean(point.values) for line in points.values() for point in line.values()]
    published = PUBLISHED.get((experiment.network, experiment.data), {})
    for (name, each), marker in zip(published.items(), itertools.cycle(MARKERS), strict=False):
        shown = [point for point in each if point[0] > 1]
        if shown:
            style = {"color": figures.INK, "ls": "--", "lw": 0.8, "zorder": 4}
            axis.plot(
                *zip(*shown, strict=True), marker=marker, ms=7, label=f"{name}, published", **style
            )
            values += [error for _, error in shown]
    low = 0.85 * min(values)
    high = min(1.2 * max(values), MOST * low)
    axis.set(
        title=f"{experiment.network} on {experiment.data}",
        xlabel="compression (weights / nonzero weights)",
        ylabel=f"{metric.name} on the test set",
        ylim=(low, high),
    )
    figures.plain_log(axis.xaxis, experiment.compressions, "×")
    unit = f" {metric.unit}" if metric.unit else ""
    figures.plain_log(axis.yaxis, [tick for tick in TICKS if low < tick <= high], unit)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure
