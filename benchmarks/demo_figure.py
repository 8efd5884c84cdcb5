"""The figure of the demo."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.demo_report import LEVELS, THRESHOLDS, Run, Setup
from benchmarks.models import DIGITS_MLP


def figure(runs: Sequence[Run], setup: Setup) -> Any:
    """Draw curves of training and what the trained weights look like."""
    fig, axes = figures.panels(2, 3, figsize=(12.5, 7))
    (loss, accuracy, pruning), (compressed, aligned, histogram) = axes
    dense = [run.dense for run in runs]
    sparse = [run.sparse for run in runs]
    epochs = range(1, setup.epochs + 1)

    for networks, colour, label in (
        (dense, figures.DENSE, "SGD (dense)"),
        (sparse, figures.SPARSE, "DWFOptimizer"),
    ):
        _band(loss, epochs, [n.trained.loss for n in networks], colour, label)
        _band(accuracy, epochs, [_percent(n.trained.accuracy) for n in networks], colour, label)
        _band(pruning, LEVELS, [_percent(n.trained.pruned) for n in networks], colour, label)
    loss.set(title="Training loss", xlabel="epoch")
    figures.plain_log(loss.yaxis, [1, 0.1, 0.01, 0.001, 0.0001])
    accuracy.set(title="Validation accuracy, %", xlabel="epoch", ylim=(80, 100))

    pruning.set(title="Test accuracy when pruned by size, %", xlabel="compression", ylim=(40, 100))
    figures.plain_log(pruning.xaxis, [1, 3, 10, 30, 100], "×")
    pruning.axvline(
        1 / (1 - setup.sparsity),
        color=figures.ACCENT,
        ls="--",
        lw=1.4,
        label=f"sparsify(sparsity={setup.sparsity:g})",
    )
    for axis, corner in ((loss, "upper right"), (accuracy, "lower right"), (pruning, "lower left")):
        axis.legend(loc=corner)

    colours = (figures.SPARSE, figures.DEPTH_COLOURS[2], figures.ACCENT)
    for (threshold, name), colour in zip(THRESHOLDS.items(), colours, strict=True):
        curves = [n.trained.compression[threshold] for n in sparse]
        _band(compressed, epochs, curves, colour, f"|w| > {name}")
    compressed.set(title="Compression of DWFOptimizer's weights", xlabel="epoch")
    figures.plain_log(compressed.yaxis, [1, 2, 5, 10, 20, 50, 100], "×")
    compressed.legend(title="counting as nonzero", loc="upper left")

    _band(aligned, epochs, [n.trained.misalignment for n in sparse], figures.SPARSE, "")
    aligned.set(title="Misalignment of its factors", xlabel="epoch")
    figures.plain_log(aligned.yaxis, [50, 100, 150, 200, 300, 500, 700, 1000])

    _draw_histogram(histogram, runs)
    fig.suptitle(
        f"Digits, MLP {'-'.join(map(str, DIGITS_MLP))}: the same training with one line swapped "
        f"(lines: mean of {len(runs)} seeds; bands: smallest to largest)",
        x=0.01,
        ha="left",
        fontsize=12.5,
    )
    return fig


def _draw_histogram(axis: Any, runs: Sequence[Run]) -> None:
    """Draw how large the weights are at the end of training, before any is set to zero."""
    bins = np.linspace(-7, 2, 73)
    for networks, colour, label in (
        ([run.dense for run in runs], figures.DENSE, "SGD (dense)"),
        ([run.sparse for run in runs], figures.SPARSE, "DWFOptimizer"),
    ):
        sizes = np.concatenate([network.trained.magnitudes.numpy() for network in networks])
        logs = np.log10(np.maximum(sizes, 10 ** bins[0]))
        axis.hist(
            np.clip(logs, bins[0], bins[-1]),
            bins,
            weights=np.full(len(logs), 100 / len(logs)),
            color=colour,
            alpha=0.65,
            label=label,
        )
    threshold = np.log10(statistics.median(run.threshold for run in runs))
    axis.axvline(threshold, color=figures.ACCENT, ls="--", lw=1.4, label="set to zero below")
    axis.set(
        title="Weights after training, before sparsify",
        xlabel="log10 |w|",
        ylabel="% of weights",
        ylim=(3e-4, 500),  # room for the legend
    )
    figures.plain_log(axis.yaxis, [100, 10, 1, 0.1, 0.01, 0.001])
    axis.legend(loc="upper right", fontsize=8.5)


def _band(
    axis: Any, at: Sequence[float], curves: Sequence[Sequence[float]], colour: str, label: str
) -> None:
    """Draw the mean of several curves over the area they span."""
    values = np.array(curves)
    axis.fill_between(at, values.min(0), values.max(0), color=colour, alpha=0.18, lw=0)
    axis.plot(at, values.mean(0), color=colour, label=label)


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]
