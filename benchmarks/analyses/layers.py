"""Which layers become sparse, and when?"""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import NOTHING, Runs, column, legend
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table

DEPTHS = (2, 3, 4)
# Weights of each layer, as the network names them.
LAYERS = {
    "1.0.weight": ("784 to 300", 235_200),
    "1.2.weight": ("300 to 100", 30_000),
    "1.4.weight": ("100 to 10", 1000),
}
COLOURS = (figures.SPARSE, figures.ACCENT, "#009e73")


def configurations() -> list[Config]:
    """List the runs; the dense one shows what one-shot pruning leaves."""
    return [configuration(depth=depth) for depth in (1, *DEPTHS)]


def page(runs: Runs) -> str:
    """Write the table."""
    header = ["depth", "compression", *(label for label, _ in LAYERS.values())]
    return f"""# Layers

Weights that are left after the collapse by one threshold over all layers, and what part of the layer's
that is.

![zeros of every layer by step](layers.png)

{table(header, [_row(runs, depth) for depth in (1, *DEPTHS)])}"""


def _row(runs: Runs, depth: int) -> list[str]:
    result = runs.of(depth=depth)
    if result is None or result["collapsed"] is None:
        return [str(depth), *[NOTHING] * (1 + len(LAYERS))]
    left = result["collapsed"]["layers"]
    cells = [f"{left[name]} ({100 * left[name] / total:.1f} %)" for name, (_, total) in LAYERS.items()]
    return [str(depth), f"{result['collapsed']['compression']:.1f}", *cells]


def draw(runs: Runs) -> Any:
    """Draw every layer's zeros over the run, a panel a depth."""
    figure, axes = figures.panels(1, len(DEPTHS), figsize=(10, 3.2), sharey=True)
    for depth, axis in zip(DEPTHS, axes, strict=True):
        axis.set(title=f"depth {depth}", xlabel="step", ylim=(0, 1))
        result = runs.of(depth=depth)
        if result is not None:
            for (name, (label, _)), colour in zip(LAYERS.items(), COLOURS, strict=True):
                axis.plot(*column(result, f"sparsity {name}"), color=colour, label=label)
    axes[0].set_ylabel("weights at most 1e-3")
    legend(axes[0], loc="lower right")
    return figure
