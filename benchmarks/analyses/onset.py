"""When do zeros come? Three phases: dense, transition, sparse."""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.analyses.analysis import NOTHING, Result, Runs, column, percent
from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import table
from dwf_optim.monitor import PHASES, phases

DEPTHS = (2, 3, 4)
# What is varied around the usual run.
VARIED: dict[str, tuple[float, ...]] = {"penalty": (1e-4, 3e-4, 1e-3), "lr": (0.03, 0.1, 0.2)}
SHADES = ("#ffffff", "#fdf1e3", "#e8f1f8")


def _settings() -> list[dict[str, Any]]:
    """List what is changed, each once."""
    found: list[dict[str, Any]] = []
    for name, values in VARIED.items():
        for value in values:
            found += [{"depth": depth, name: value} for depth in DEPTHS]
    return found


def configurations() -> list[Config]:
    """List the runs."""
    return [configuration(**each) for each in _settings()]


def begin(result: Result) -> dict[str, int]:
    """Return the first record of each phase that a run has."""
    named = phases(result["history"]["sparsity"])
    return {phase: named.index(phase) for phase in PHASES if phase in named}


def page(runs: Runs) -> str:
    """Write the table."""
    rows, shown = [], []
    for each in _settings():
        config = configuration(**each)
        if config not in shown:
            shown.append(config)
            start = [f"{config[name]:g}" for name in ("depth", "penalty", "lr")]
            rows.append([*start, *_row(runs.of(**each))])
    header = ["depth", "penalty", "lr", "onset, step", "settled, step", "zeros at end"]
    looks = [f"{name}, %" for name in ("validation at onset", "lowest in transition", "settled", "end")]
    return f"""# Onset of sparsity

By the rule of `dwf_optim.monitor.phases`: a run is dense until a tenth of the zeros that it ends with
are there (onset), and sparse from when nine tenths are there for good (settled); zero is what is at most
1e-3. Looked at every half epoch.

![zeros and validation error by step, phases shaded](onset.png)

{table([*header, *looks], rows)}"""


def _row(result: Result | None) -> list[str]:
    if result is None or not result["finite"]:
        return [NOTHING if result is None else "diverged", *[NOTHING] * 6]
    steps, accuracies = column(result, "validation accuracy")
    starts = begin(result)
    onset, settled = starts.get("transition"), starts.get("sparse")
    between = accuracies[onset:settled] if onset is not None else []
    return [
        NOTHING if onset is None else str(steps[onset]),
        NOTHING if settled is None else str(steps[settled]),
        f"{result['history']['sparsity'][-1]:.3f}",
        NOTHING if onset is None else percent(accuracies[onset]),
        percent(min(between)) if between else NOTHING,
        NOTHING if settled is None else percent(accuracies[settled]),
        percent(accuracies[-1]),
    ]


def draw(runs: Runs) -> Any:
    """Draw zeros and validation error of the usual runs over the phases, a panel a depth."""
    figure, axes = figures.panels(1, len(DEPTHS), figsize=(10, 3.4), sharey=True)
    for depth, axis in zip(DEPTHS, axes, strict=True):
        axis.set(title=f"depth {depth}", xlabel="step", ylim=(0, 1))
        error = axis.twinx()
        error.set(ylim=(0, 10))
        error.grid(visible=False)
        result = runs.of(depth=depth)
        if result is not None:
            steps, zeros = column(result, "sparsity")
            _, accuracies = column(result, "validation accuracy")
            axis.plot(steps, zeros, color=figures.SPARSE)
            error.plot(steps, [100 * (1 - a) for a in accuracies], color=figures.ACCENT, lw=1.2)
            starts = begin(result)
            ends = [*(steps[i] for i in list(starts.values())[1:]), steps[-1]]
            for (phase, first), end in zip(starts.items(), ends, strict=True):
                axis.axvspan(steps[first], end, color=SHADES[PHASES.index(phase)], zorder=0, lw=0)
        if depth == DEPTHS[-1]:
            error.set_ylabel("validation error, %", color=figures.ACCENT)
    axes[0].set_ylabel("weights at most 1e-3", color=figures.SPARSE)
    return figure
