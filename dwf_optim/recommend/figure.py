"""One figure of a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dwf_optim.recommend.trial import Trial

if TYPE_CHECKING:
    from dwf_optim.recommend.advice import Recommendation

LINE, ACCENT, GREY = "#0072b2", "#d55e00", "#7a828e"


def draw(advice: Recommendation) -> Any:
    """Draw the trials that an advice rests on.

    Args:
        advice: From `recommend`.

    Returns:
        A ``matplotlib.figure.Figure``, of no window and no global state.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'dwf-optim[plots]'") from error
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2)
    rates, (control, *ladder) = advice.curves["lr"], advice.curves["penalty"]
    _losses(axes[0, 0], rates, [f"{t.lr:.2g}" for t in rates], "Loss, by learning rate")
    penalties = [control, *ladder]
    _losses(axes[0, 1], penalties, [f"{t.penalty:.1g}" for t in penalties], "Loss, by penalty")
    first = rates[0].planned
    screened = sorted((t for t in rates if t.planned == first), key=lambda t: t.lr)
    _ends(axes[1, 0], [t.lr for t in screened], screened, advice.lr, "learning rate")
    axes[1, 0].axhline(control.losses[0], color=GREY, lw=0.8, ls=":")
    _ends(axes[1, 1], [t.penalty for t in ladder], ladder, advice.penalty, "penalty")
    axes[1, 1].axhline(control.loss, color=GREY, lw=0.8, ls=":")
    return figure


def _losses(ax: Any, trials: Sequence[Trial], names: Sequence[str], title: str) -> None:
    ax.set_title(title, loc="left")
    highest = max(t.losses[0] for t in trials)
    for number, (trial, name) in enumerate(zip(trials, names, strict=True)):
        # What diverges leaves the picture, instead of flattening the others.
        shown = [loss if loss < 2 * highest else math.nan for loss in trial.losses]
        ax.plot(shown, label=name, color=LINE, alpha=(number + 1) / len(trials), lw=1)
    ax.set_xlabel("step")
    ax.grid(color="#e6e8ec")
    ax.legend(frameon=False, fontsize="small")


def _ends(ax: Any, values: Sequence[float], trials: Sequence[Trial], chosen: float, name: str) -> None:
    ax.set_title(f"Loss at the end, by {name}", loc="left")
    ax.plot(values, [t.loss for t in trials], color=LINE, marker="o")
    ax.axvline(chosen, color=ACCENT)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter("")  # in a range of less than a decade they would lie upon each other
    ax.set_xlabel(f"{name}; the line is what is recommended")
    ax.grid(color="#e6e8ec")
