"""Does a network go on to generalize better after it has learned its training images?"""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import NOTHING, Result, Runs, column, legend, percent
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table

DEPTHS = (1, 2, 3, 4)
IMAGES = (55_000, 1000)
# Training accuracy from which the images count as learned.
LEARNED = 0.99


def configurations() -> list[Config]:
    """List the runs: with all images, and with so few that they are soon known by heart."""
    return [configuration(depth=depth, images=images) for images in IMAGES for depth in DEPTHS]


def page(runs: Runs) -> str:
    """Write the table."""
    rows = [
        [f"{images:,}", str(depth), *_row(runs.of(depth=depth, images=images))]
        for images, depth in itertools.product(IMAGES, DEPTHS)
    ]
    header = ["images", "depth", "learned, step", "validation then, %", "at end, %", "gain, points"]
    return f"""# Delayed generalization

The same number of steps on {" or ".join(f"{n:,}" for n in IMAGES)} images. Learned: training accuracy is
{100 * LEARNED:g} % for the first time, on at most 5000 of the images that are trained on.

![training and validation accuracy by step](generalization.png)

{table([*header, "zeros then", "zeros at end"], rows)}"""


def _row(result: Result | None) -> list[str]:
    if result is None or not result["finite"]:
        return [NOTHING if result is None else "diverged", *[NOTHING] * 5]
    steps, learned = column(result, "train accuracy")
    _, accuracies = column(result, "validation accuracy")
    _, zeros = column(result, "sparsity")
    first = next((i for i, accuracy in enumerate(learned) if accuracy >= LEARNED), None)
    if first is None:
        return ["never", NOTHING, percent(accuracies[-1]), NOTHING, NOTHING, f"{zeros[-1]:.3f}"]
    gain = 100 * (accuracies[-1] - accuracies[first])
    return [
        str(steps[first]),
        *(percent(accuracies[at]) for at in (first, -1)),
        f"{gain:+.2f}",
        *(f"{zeros[at]:.3f}" for at in (first, -1)),
    ]


def draw(runs: Runs) -> Any:
    """Draw errors and zeros over the run: a row for each number of images, a column a depth."""
    figure, axes = figures.panels(len(IMAGES), len(DEPTHS), figsize=(11, 5), sharex=True, sharey="row")
    for images, row in zip(IMAGES, axes, strict=True):
        for depth, axis in zip(DEPTHS, row, strict=True):
            name = f"depth {depth}" if depth > 1 else "dense"
            axis.set(title=f"{name}, {images:,} images", yscale="log", ylim=(0.01, 100))
            axis.title.set_fontsize(9.5)
            result = runs.of(depth=depth, images=images)
            if result is None:
                continue
            for what, colour in (("train", figures.DENSE), ("validation", figures.ACCENT)):
                steps, accuracies = column(result, f"{what} accuracy")
                # What is learned without an error is drawn on the axis.
                errors = [max(100 * (1 - a), 0.01) for a in accuracies]
                axis.plot(steps, errors, color=colour, label=f"{what} error")
            if depth > 1:
                _, zeros = column(result, "sparsity")
                left = [max(100 * (1 - z), 0.01) for z in zeros]
                style = {"color": figures.SPARSE, "ls": "--", "lw": 1.2}
                axis.plot(steps, left, **style, label="weights above 1e-3")
        figures.plain_log(row[0].yaxis, (0.01, 0.1, 1, 10, 100), " %")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    legend(axes[0, 1], fontsize=8)
    return figure
