"""What does the factors' start do to what comes out?"""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import OUTCOME, Runs, column, legend, outcome
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table

DEPTHS = (2, 3, 4)
INITS = {
    "preserve": figures.SPARSE,
    "dwf": "#009e73",
    "varmatch": figures.ACCENT,
    "plain": figures.DENSE,
}
SAYS = {
    "preserve": "algorithm 1's factors, rescaled so that weights stay what they were (the default)",
    "dwf": "algorithm 1: truncated normals that match the weights' variance; weights are drawn anew",
    "varmatch": "the same without truncation",
    "plain": "every factor drawn as the layer's weights usually are: the product's deviation is sigma^D",
}


def configurations() -> list[Config]:
    """List the runs."""
    return [configuration(depth=depth, init=init) for init in INITS for depth in DEPTHS]


def page(runs: Runs) -> str:
    """Write the tables."""
    rows = [
        [str(depth), init, *outcome(runs.of(depth=depth, init=init))]
        for depth in DEPTHS
        for init in INITS
    ]
    return (
        f"# Initialization\n\n{table(['init', 'factors'], ([name, SAYS[name]] for name in INITS))}\n"
        f"![accuracy and zeros by step, for every init](initialization.png)\n\n"
        f"{table(['depth', 'init', *OUTCOME], rows)}"
    )


def draw(runs: Runs) -> Any:
    """Draw validation error and zeros over the run, a column a depth."""
    figure, axes = figures.panels(2, len(DEPTHS), figsize=(10, 5.2), sharex=True, sharey="row")
    for depth, (above, below) in zip(DEPTHS, axes.T, strict=True):
        above.set(title=f"depth {depth}", yscale="log", ylim=(1.5, 100))
        below.set(xlabel="step", ylim=(0, 1))
        for init, colour in INITS.items():
            result = runs.of(depth=depth, init=init)
            if result is not None:
                steps, accuracies = column(result, "validation accuracy")
                above.plot(steps, [100 * (1 - a) for a in accuracies], color=colour, label=init)
                below.plot(*column(result, "sparsity"), color=colour)
    figures.plain_log(axes[0, 0].yaxis, (2, 5, 10, 20, 50, 100), " %")
    axes[0, 0].set_ylabel("validation error")
    axes[1, 0].set_ylabel("weights at most 1e-3")
    legend(axes[0, 0])
    return figure
