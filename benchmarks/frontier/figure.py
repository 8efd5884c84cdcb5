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


def draw(experiment: Experiment, points: Points) -> Any:
    """Draw the metric against compression, a line a method with the spread of its seeds."""
    metric = metric_of(experiment.data)
    figure, axis = figures.panels(figsize=(9.5, 5.4))
    for name, line in points.items():
        means = {compression: mean(point.values) for compression, point in line.items()}
        if name == "dense":
            axis.axhline(means[1.0], color=figures.DENSE, ls=":", lw=1.4, label="dense")
            continue
        colour, ours = COLOURS.get(name, figures.DENSE), name.startswith("dwf-")
        style = {"color": colour, "label": name, "zorder": 3 if ours else 2}
        axis.plot(list(means), list(means.values()), "o-", ms=4, lw=2.2 if ours else 1.2, **style)
        spread = [(min(point.values), max(point.values)) for point in line.values()]
        axis.fill_between(list(means), *zip(*spread, strict=True), color=colour, alpha=0.15, lw=0)
    values = [mean(point.values) for line in points.values() for point in line.values()]
    published = PUBLISHED.get((experiment.network, experiment.data), {})
    for (name, each), marker in zip(published.items(), itertools.cycle(MARKERS), strict=False):
        sparse = [point for point in each if point[0] > 1]
        if sparse:
            style = {"color": figures.INK, "ls": "--", "lw": 0.8, "zorder": 4}
            axis.plot(
                *zip(*sparse, strict=True), marker=marker, ms=7, label=f"{name}, published", **style
            )
            values += [error for _, error in sparse]
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
