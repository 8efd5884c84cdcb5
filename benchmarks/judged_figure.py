"""Speed-up against the share of zeros: where sparse kernels break even, and what they gain beyond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import ACCENT, DENSE, SPARSE, panels, plain_log
from benchmarks.judged import AVX2, AVX512, Judged

WAYS = {"engine, AVX-512": (AVX512, SPARSE, "-"), "engine, AVX2": (AVX2, ACCENT, "--")}
OTHERS = ((DENSE, ":"), (DENSE, "--"), (DENSE, "-."))
TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def figure(judged: Judged, batches: Sequence[int], others: Sequence[str] = ()) -> Any:
    """Draw geometric means over the judged layers, one panel a batch size.

    Args:
        judged: The records.
        batches: Which batch sizes.
        others: Further ways, by their names in the records.

    Returns:
        A matplotlib figure.
    """
    ways: Mapping[str, tuple[str, str, str]] = WAYS | {
        name: (name, *style) for name, style in zip(others, OTHERS, strict=False)
    }
    made, axes = panels(1, len(batches), figsize=(4.6 * len(batches), 3.8), sharey=True, squeeze=False)
    for ax, batch in zip(axes[0], batches, strict=True):
        for label, (way, colour, line) in ways.items():
            points = [
                (zeros, value)
                for zeros in judged.shares(batch)
                if (value := judged.mean(batch, zeros, way)) is not None
            ]
            # Densities on a log axis, so that .9, .99 and .998 do not fall together.
            density = [1 - zeros for zeros, _ in points]
            ax.plot(density, [value for _, value in points], line, color=colour, marker=".", label=label)
        ax.axhline(1, color="#9aa1ac", linewidth=1)
        ax.set_title(f"Batch {batch}")
        ax.set_xlabel("zeros")
        plain_log(ax.yaxis, TICKS, "x")
        ax.set_xscale("log")
        ax.set_xlim(0.6, 0.0017)
        shown = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998)
        ax.set_xticks([1 - zeros for zeros in shown], [f"{zeros:g}" for zeros in shown])
        ax.minorticks_off()
    axes[0][0].set_ylabel("speed-up over the fastest dense runtime")
    axes[0][0].legend(loc="upper left")
    return made
