"""What does depth do, at every penalty?"""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import OUTCOME, Runs, legend, outcome
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table

DEPTHS = (2, 3, 4)
PENALTIES = (1e-4, 3e-4, 1e-3)


def configurations() -> list[Config]:
    """List the runs."""
    factorized = [
        configuration(depth=depth, penalty=penalty) for penalty in PENALTIES for depth in DEPTHS
    ]
    return [configuration(depth=1), *factorized]


def page(runs: Runs) -> str:
    """Write the table."""
    rows = [
        [str(depth), f"{penalty:g}", *outcome(runs.of(depth=depth, penalty=penalty))]
        for depth, penalty in [(1, 0.0), *((d, p) for d in DEPTHS for p in PENALTIES)]
    ]
    return f"""# Depth

Depth 1 is dense, and its collapse is magnitude pruning in one shot. Every depth has its own best
penalty, so depths compare along the lines of the figure and not at one penalty. The frontier compares
them with each tuned.

![test error against compression, for every depth](depths.png)

{table(["depth", "penalty", *OUTCOME], rows)}"""


def draw(runs: Runs) -> Any:
    """Draw error against compression after the collapse, a line a depth over its penalties."""
    figure, axis = figures.panels(figsize=(7, 4.2))
    for depth in (1, *DEPTHS):
        found = [
            runs.of(depth=depth, penalty=penalty) for penalty in (PENALTIES if depth > 1 else (0.0,))
        ]
        points = [
            (r["collapsed"]["compression"], 100 * (1 - r["collapsed"]["test"]))
            for r in found
            if r is not None and r["collapsed"]
        ]
        label = "dense, pruned in one shot" if depth == 1 else f"depth {depth}"
        axis.plot(
            [x for x, _ in points],
            [y for _, y in points],
            "o-",
            label=label,
            color=figures.DEPTH_COLOURS[depth],
        )
    axis.set(
        title=f"Collapsed at each of the penalties {', '.join(f'{p:g}' for p in PENALTIES)}",
        xlabel="compression (weights / nonzero weights)",
        ylabel="test error, %",
    )
    figures.plain_log(axis.xaxis, (2, 5, 10, 20, 50, 100, 200, 500), "×")
    legend(axis)
    return figure
