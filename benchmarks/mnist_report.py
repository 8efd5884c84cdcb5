"""The table and the plot of `benchmarks.mnist`."""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.frontier.published import SOURCES
from benchmarks.records import CONFIG, RESULT, Records, table

# For the same network: test accuracy in percent, at compression, and whether its label goes left of it.
PUBLISHED = {
    "Han et al.": (98.41, 12, False),
    "Dynamic network surgery": (98.01, 56, True),
    "Sparse variational dropout": (98.08, 68, False),
}
GOALS = (0.97, 0.98)
# Below this validation accuracy a run counts as diverged even if its loss stayed finite.
LEAST_ACCURACY = 0.5
COMMAND = "python -m benchmarks.mnist --data DIR"


def report(records: Records) -> str:
    """Write the Markdown page: what was found, how, and every run."""
    rows = _sorted(records)
    if not rows:
        return "# LeNet-300-100 on MNIST\n\nNo runs yet.\n"
    config = rows[0][CONFIG]
    tolerances = [made["tolerance"] for made in rows[0][RESULT]["collapsed"]]
    penalties = sorted({row[CONFIG]["penalty"] for row in rows if row[CONFIG]["depth"] > 1})
    diverged = sum(_diverged(row) for row in rows)
    setting = f"""\
One learning rate for all depths: lr {config["lr"]:g}, momentum {config["momentum"]:g},
{config["schedule"]} schedule, `lr_scale="auto"`, `init="preserve"`, pixels standardized,
{config["epochs"]} epochs. Depths 2, 3 and 4 at penalties {", ".join(f"{x:g}" for x in penalties)}. No
training follows the collapse. Depth 1 is torch.optim.SGD without penalty, and its collapse is
one-shot magnitude pruning.

Protocol: 5000 of the 60000 training images are held out (fixed split). `sparsify(tolerance=t)`
chooses the collapse on those 5000 alone; the 10000 test images are only measured. Compression: all
weights over nonzero weights of the three matrices (266,200 weights); biases are not counted.
Diverged: the loss became non-finite, or validation accuracy ended below {100 * LEAST_ACCURACY:.0f} %.
Batch size and scaling of the pixels were settled by seven runs before the grid (depths 3 and 4 at
penalty 3e-4 or 5e-4; batch 128, 256 and 512; pixels standardized, or left at 0 to 1). They are not in
the table unless the grid repeats them; none diverged.

![accuracy against compression](mnist.png)

Crosses: published results of the same network, trained otherwise. {_published()}.
"""
    best = [_best(rows, goal, by) for goal in GOALS for by in ("test", "validation")]
    return "\n".join(
        [
            "# LeNet-300-100 on MNIST\n",
            f"Made by `{COMMAND}` from `mnist.jsonl`, which holds every run of the grid. "
            f"{records.provenance()}\n",
            setting,
            "## Sparsest networks\n",
            f"Over all runs at t = {tolerances[0]:g}, by the accuracy after the collapse. "
            f"{diverged} of {len(rows)} runs diverged.\n",
            table(
                [
                    "goal",
                    "judged by",
                    "depth",
                    "batch",
                    "penalty",
                    "seed",
                    "validation",
                    "test",
                    "compression",
                ],
                best,
            ),
            "## Every run\n",
            "Accuracies in percent; c is compression. First as trained, with the compression that a "
            "threshold of float32 eps (1.19e-7) alone would give; then collapsed by each tolerance t of "
            "validation accuracy.\n",
            table(
                [
                    *(
                        "depth",
                        "batch",
                        "penalty",
                        "seed",
                        "lr",
                        "epochs",
                        "validation",
                        "test",
                        "c at eps",
                    ),
                    *(f"t={t:g}: {what}" for t in tolerances for what in ("validation", "test", "c")),
                    *("diverged", "seconds"),
                ],
                [_row(row, len(tolerances)) for row in rows],
            ),
            "Seconds are wall-clock for training, on a machine that did other work at the same time: "
            "they say what a run costs, and are no comparison of speed.\n",
        ]
    )


def plot(records: Records) -> Any:
    """Draw test accuracy against compression, a line a depth."""
    figure, axis = figures.panels(figsize=(8.2, 5))
    rows = [row for row in _sorted(records) if row[RESULT]["collapsed"]]
    for depth in sorted({row[CONFIG]["depth"] for row in rows}):
        colour = figures.DEPTH_COLOURS[depth]
        mine = [row[RESULT]["collapsed"] for row in rows if row[CONFIG]["depth"] == depth]
        points = [_point(made) for collapsed in mine for made in collapsed]
        axis.plot(*zip(*points, strict=True), ".", color=colour, alpha=0.35, ms=7)
        label = f"depth {depth}" if depth > 1 else "dense, pruned in one shot"
        axis.plot(*zip(*_front(points), strict=True), "o-", color=colour, label=label, ms=5)
    for name, (accuracy, compression, left) in PUBLISHED.items():
        axis.plot(compression, accuracy, "x", color=figures.INK, ms=7, mew=1.8)
        axis.annotate(
            name,
            (compression, accuracy),
            xytext=(-4, 10) if left else (6, 5),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8.5,
        )
    axis.axhline(97, color=figures.DENSE, ls=":", lw=1.2)
    axis.set(
        title="LeNet-300-100 on MNIST: test accuracy against compression",
        xlabel="compression (weights / nonzero weights)",
        ylabel="test accuracy, %",
        ylim=(95, 98.7),
    )
    figures.plain_log(axis.xaxis, [1, 3, 10, 30, 100, 300], "×")
    axis.legend(loc="lower left", title="Every run at every tolerance;\nlines: the best of each depth")
    return figure


def _published() -> str:
    return "; ".join(
        f"{name} ({SOURCES[name]}): {accuracy:g} % at compression {compression}"
        for name, (accuracy, compression, _) in PUBLISHED.items()
    )


def _sorted(records: Records) -> list[dict[str, Any]]:
    def key(row: dict[str, Any]) -> tuple[float, ...]:
        return tuple(row[CONFIG][name] for name in ("depth", "batch_size", "penalty", "seed"))

    return sorted(records.rows, key=key)


def _diverged(row: dict[str, Any]) -> bool:
    result = row[RESULT]
    return not result["finite"] or result["validation"] < LEAST_ACCURACY


def _point(made: dict[str, Any]) -> tuple[float, float]:
    return made["compression"], 100 * made["test"]


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both compression and accuracy."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def _best(rows: list[dict[str, Any]], goal: float, by: str) -> list[str]:
    """Write the sparsest collapse whose accuracy on ``by`` meets the goal."""
    met = [
        (row[RESULT]["collapsed"][0], row[CONFIG])
        for row in rows
        if row[RESULT]["collapsed"] and row[RESULT]["collapsed"][0][by] >= goal
    ]
    start = [f"≥ {100 * goal:.0f} %", by]
    if not met:
        return [*start, *["none"] * 7]
    made, config = max(met, key=lambda pair: pair[0]["compression"])
    return [
        *start,
        *(f"{config[name]:g}" for name in ("depth", "batch_size", "penalty", "seed")),
        *(f"{100 * made[name]:.2f}" for name in ("validation", "test")),
        f"{made['compression']:.1f}",
    ]


def _row(row: dict[str, Any], tolerances: int) -> list[str]:
    config, result = row[CONFIG], row[RESULT]
    cells = [f"{config[name]:g}" for name in ("depth", "batch_size", "penalty", "seed", "lr", "epochs")]
    cells += [f"{100 * result[name]:.2f}" for name in ("validation", "test")]
    cells.append(_ratio(result["compression_eps"]))
    for made in result["collapsed"]:
        cells += [f"{100 * made[name]:.2f}" for name in ("validation", "test")]
        cells.append(_ratio(made["compression"]))
    cells += ["–"] * 3 * (tolerances - len(result["collapsed"]))
    return [*cells, "yes" if _diverged(row) else "no", f"{result['seconds']:.0f}"]


def _ratio(compression: float | None) -> str:
    return "∞" if compression is None else f"{compression:.1f}"
