"""The look of all figures, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # figures are files; no display is needed

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator

INK, GRID = "#333a45", "#e6e8ec"
# Colour-blind safe (Okabe and Ito). Grey is the dense baseline everywhere.
DENSE, SPARSE, ACCENT = "#7a828e", "#0072b2", "#d55e00"
DEPTH_COLOURS = {1: DENSE, 2: "#009e73", 3: SPARSE, 4: ACCENT}

STYLE: Any = {  # matplotlib types its keys one by one
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa1ac",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 9.5,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def panels(*args: Any, **kwargs: Any) -> Any:
    """Make a figure and its axes in this style; arguments as of ``matplotlib.pyplot.subplots``."""
    plt.rcParams.update(STYLE)
    return plt.subplots(*args, layout="constrained", **kwargs)


def plain_log(axis: Any, ticks: Sequence[float], unit: str = "") -> None:
    """Make a log scale of a matplotlib axis readable: these ticks only, as plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter("{x:g}" + unit)
    axis.set_minor_locator(NullLocator())


def write_figure(path: Path, figure: Any) -> None:
    """Write a figure as PNG that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    figure.savefig(temporary, format="png", dpi=150)
    temporary.replace(path)
    plt.close(figure)
