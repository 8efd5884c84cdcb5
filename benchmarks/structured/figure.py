"""Accuracy over FLOPs saved, one panel for each setup that has been run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import DENSE, GRID, panels, plain_log, write_figure
from benchmarks.records import RESULT, Records
from benchmarks.structured.choice import Chosen, reference, rows_of
from benchmarks.structured.methods import METHODS
from benchmarks.structured.setups import SETUPS

# Colour-blind safe (Okabe and Ito): ours as dots and lines that are full, baselines' dashed.
COLOURS = {
    "dense": DENSE,
    "dwf-2": "#009e73",
    "dwf-3": "#0072b2",
    "dwf-4": "#d55e00",
    "dwf-3-finetuned": "#56b4e9",
    "group-lasso": "#cc79a7",
    "l1-filters": "#e69f00",
    "slimming": "#7b5e57",
}
COLUMNS = 3
# Points that have lost more are of no use, and would press the others together.
SHOWN = 0.15


def write_points(path: Path, records: Records) -> bool:
    """Draw each method's best networks; False where no setup has its reference yet."""
    setups = [name for name in SETUPS if reference(records, name) is not None]
    if not setups:
        return False
    rows = -(-len(setups) // COLUMNS)
    figure, axes = panels(rows, COLUMNS, figsize=(4.4 * COLUMNS, 3.4 * rows + 0.5), squeeze=False)
    for axis in axes.flat[len(setups) :]:
        axis.set_axis_off()
    seen = {}
    for axis, name in zip(axes.flat, setups, strict=False):
        best = reference(records, name)
        assert best is not None
        axis.axhline(100 * best["validation"], color=GRID, linewidth=6, zorder=0)
        for method in METHODS:
            points = frontier(records, name, method)
            points = [(x, y) for x, y in points if y > best["validation"] - SHOWN]
            if points:
                line = axis.plot(
                    [x for x, _ in points],
                    [100 * y for _, y in points],
                    "o-" if method.startswith("dwf") else "s--",
                    color=COLOURS[method],
                    markersize=3.5,
                    linewidth=1.3,
                )
                seen[METHODS[method].title] = line[0]
        plain_log(axis.xaxis, (1, 2, 5, 10, 20, 50, 100), "x")
        axis.set(title=SETUPS[name].title, xlabel="fewer FLOPs", ylabel="validation accuracy, %")
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=4)
    write_figure(path, figure)
    return True


def frontier(records: Records, setup: str, method: str) -> list[tuple[float, float]]:
    """Return FLOPs saved and validation accuracy of the networks that no other of the method beats."""
    points = [
        (Chosen({}, point).saved, point["validation"])
        for row in rows_of(records, setup, method)
        for point in row[RESULT]["points"]
    ]
    best: list[tuple[float, float]] = []
    for saved, accuracy in sorted(points, reverse=True):
        if not best or accuracy > best[-1][1]:
            best.append((saved, accuracy))
    return best[::-1]
