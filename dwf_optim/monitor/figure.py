"""One figure of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dwf_optim.monitor.phases import PHASES, phases
from dwf_optim.monitor.record import Record

COLOURS = {"dense": "#ffffff", "transition": "#fdf1e3", "sparse": "#e8f1f8"}
LINE, ACCENT, GREY = "#0072b2", "#d55e00", "#7a828e"


def draw(records: Sequence[Record]) -> Any:
    """Draw a run; phases lie behind the curves, by the rule of `phases`.

    Args:
        records: In the order of steps.

    Returns:
        A ``matplotlib.figure.Figure``, of no window and no global state.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no records.
    """
    if not records:
        raise ValueError("there are no records yet: train for `every` steps, or call record()")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'dwf-optim[plots]'") from error
    figure = Figure(figsize=(9, 8.5), layout="constrained")
    axes = figure.subplots(4, 1, height_ratios=[2, 2, 1.6, 2.4])
    steps = [record.step for record in records]
    _metrics(axes[0], records, steps)
    _compression(axes[1], records, steps)
    _penalty(axes[2], records, steps)
    for ax in axes[:3]:
        ax.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
        ax.tick_params(labelbottom=False)
        ax.grid(color="#e6e8ec")
        _shade(ax, records, steps)
    _heat_map(figure, axes[3], records, steps)
    return figure


def _metrics(ax: Any, records: Sequence[Record], steps: Sequence[int]) -> None:
    names = sorted({name for record in records for name in record.values})
    ax.set_title("What was logged" if names else "Nothing was logged: monitor.log(loss=...)", loc="left")
    for name in names:
        points = [(r.step, r.values[name]) for r in records if name in r.values]
        ax.plot(*zip(*points, strict=True), label=name)
    if names:
        ax.legend(frameon=False)


def _compression(ax: Any, records: Sequence[Record], steps: Sequence[int]) -> None:
    ax.set_title("Compression, by what counts as zero", loc="left")
    for index, threshold in enumerate(records[0].thresholds):
        ratios = [record.compression_ratio(index) for record in records]
        shown = [ratio if math.isfinite(ratio) else math.nan for ratio in ratios]
        last = index == len(records[0].thresholds) - 1
        ax.plot(
            steps,
            shown,
            label=f"|w| at most {threshold:.2g}",
            color=LINE if last else GREY,
            alpha=1 if last else 0.4 + 0.3 * index,
        )
    ax.set_yscale("log")
    ax.legend(frameon=False)


def _penalty(ax: Any, records: Sequence[Record], steps: Sequence[int]) -> None:
    ax.set_title("Misalignment of the factors, and penalty", loc="left")
    ax.plot(steps, [record.misalignment for record in records], color=LINE)
    ax.set_ylabel("misalignment", color=LINE)
    ax.set_ylim(bottom=0)
    other = ax.twinx()
    other.plot(steps, [max(record.penalties) for record in records], color=ACCENT)
    other.set_ylabel("penalty", color=ACCENT)
    other.set_ylim(bottom=0)


def _heat_map(figure: Any, ax: Any, records: Sequence[Record], steps: Sequence[int]) -> None:
    ax.set_title("Sparsity of each layer", loc="left")
    names = list(records[-1].layers)
    rows = [
        [r.layers[name].sparsity() if name in r.layers else math.nan for r in records] for name in names
    ]
    image = ax.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=1,
        extent=(steps[0], max(steps[-1], steps[0] + 1), len(names) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("step")
    figure.colorbar(image, ax=ax, pad=0.01)


def _shade(ax: Any, records: Sequence[Record], steps: Sequence[int]) -> None:
    named = phases([record.sparsity() for record in records])
    for phase in PHASES[1:]:
        inside = [step for step, name in zip(steps, named, strict=True) if name == phase]
        if inside:
            following = [step for step in steps if step > inside[-1]]
            ax.axvspan(
                inside[0], following[0] if following else steps[-1], color=COLOURS[phase], zorder=0, lw=0
            )
