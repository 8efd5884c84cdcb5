"""What does the learning rate do, at every depth?"""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import OUTCOME, Runs, legend, outcome
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table

DEPTHS = (2, 3, 4)
RATES = (0.01, 0.03, 0.1, 0.2, 0.3)


def configurations() -> list[Config]:
    """List the runs."""
    return [configuration(depth=depth, lr=lr) for lr in RATES for depth in DEPTHS]


def page(runs: Runs) -> str:
    """Write the table."""
    rows = [
        [str(depth), f"{lr:g}", *outcome(runs.of(depth=depth, lr=lr))]
        for depth in DEPTHS
        for lr in RATES
    ]
    return f"""# Learning rate

How far weights decay depends on the penalty times the sum of rates over the run (`decay_budget`), so
too low a rate leaves them on their way to zero; too high a one diverges.

![test error and compression against rate](rates.png)

{table(["depth", "lr", *OUTCOME], rows)}"""


def draw(runs: Runs) -> Any:
    """Draw error and compression after the collapse, against the rate."""
    figure, (left, right) = figures.panels(1, 2, figsize=(10, 3.8))
    for depth in DEPTHS:
        found = {lr: result["collapsed"] for lr in RATES if (result := runs.of(depth=depth, lr=lr))}
        there = {lr: collapsed for lr, collapsed in found.items() if collapsed}
        style = {"color": figures.DEPTH_COLOURS[depth], "marker": "o", "label": f"depth {depth}"}
        left.plot(list(there), [100 * (1 - c["test"]) for c in there.values()], **style)
        right.plot(list(there), [c["compression"] for c in there.values()], **style)
    left.set(title="Test error, collapsed", yscale="log")
    figures.plain_log(left.yaxis, (2, 3, 5, 10, 20, 50), " %")
    right.set(title="Compression", yscale="log")
    figures.plain_log(right.yaxis, (1, 2, 5, 10, 20, 50, 100, 200, 500), "×")
    for axis in (left, right):
        axis.set_xlabel("lr")
        figures.plain_log(axis.xaxis, RATES)
    legend(left)
    return figure
