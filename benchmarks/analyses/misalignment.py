"""How long do factors stay unequal?"""

from __future__ import annotations

import itertools
import math
from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import NOTHING, Runs, legend, misaligned
from benchmarks.analyses.initialization import INITS
from benchmarks.analyses.runs import MOMENTUM, STEPS, USUAL, Config, configuration
from benchmarks.records import table
from benchmarks.training import SCHEDULES
from dwf_optim import auto_lr_scale

DEPTHS = (2, 3, 4)
# Steps at which the table looks; 1 is the start.
LOOKS = (1, 535, 1070, 2140, 4280)


def configurations() -> list[Config]:
    """List the runs."""
    return [configuration(depth=d, init=init) for d, init in itertools.product(DEPTHS, INITS)]


def page(runs: Runs) -> str:
    """Write the table."""
    rows = []
    for depth, init in itertools.product(DEPTHS, INITS):
        result = runs.of(depth=depth, init=init)
        seen = dict(zip(*misaligned(result), strict=True)) if result else {}
        cells = [f"{100 * seen[step]:.3g}" if step in seen else NOTHING for step in LOOKS]
        rows.append([str(depth), init, *cells])
    return f"""# Misalignment

$M = \\frac{{1}}{{D}} \\sum_d \\lVert f_d \\rVert^2 - \\lVert w \\rVert_{{2/D}}^{{2/D}}$ of all
layers, in percent of its first term at the first step. Under gradient flow $f_i^2 - f_j^2$ decays as
$e^{{-4 \\lambda t / D}}$, whatever the loss, and so does the $M$ of weights on their way to zero.
Dotted: that law for the usual run, with $t$ the sum of factor-space rates over one less momentum.

![misalignment by step](misalignment.png)

{table(["depth", "init", *(f"step {step}" for step in LOOKS)], rows)}"""


def law(depth: int, steps: list[int]) -> list[float]:
    """Return what is left of a difference of squares under gradient flow."""
    rate = USUAL["lr"] * auto_lr_scale(depth, "sgd") / (1 - MOMENTUM)
    travelled = [0.0, *itertools.accumulate(rate * SCHEDULES["cosine"](s / STEPS) for s in range(STEPS))]
    return [math.exp(-4 * USUAL["penalty"] * travelled[step] / depth) for step in steps]


def draw(runs: Runs) -> Any:
    """Draw misalignment over the run, a panel a depth and a line an init."""
    figure, axes = figures.panels(1, len(DEPTHS), figsize=(10, 3.6), sharey=True)
    for depth, axis in zip(DEPTHS, axes, strict=True):
        axis.set(title=f"depth {depth}", xlabel="step", ylim=(0.03, 100))
        for init, colour in INITS.items():
            result = runs.of(depth=depth, init=init)
            if result is not None:
                steps, parts = misaligned(result)
                axis.plot(steps, [100 * part for part in parts], color=colour, label=init)
                if init == USUAL["init"]:
                    axis.plot(
                        steps,
                        [100 * parts[0] * left for left in law(depth, steps)],
                        ":",
                        color=figures.INK,
                        label="law",
                        lw=1.2,
                    )
    axes[0].set_ylabel("misalignment")
    figures.plain_log(axes[0].yaxis, (0.1, 1, 10, 100), " %")
    legend(axes[0], fontsize=8)
    return figure
