"""The figures of `benchmarks.lr_study`: accuracy against learning rate, one figure a base."""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.lr_curves import DENSE, Curve, curve, values_of
from benchmarks.lr_rules import SAYS
from benchmarks.records import Records


def plot(records: Records, base: str) -> Any:
    """Draw one panel for each network (row) and rule (column), one curve a depth.

    Dots are the best rates, and the dashed line is the dense one's. Every panel has the dense curve.

    Args:
        records: Of `lr_study`.
        base: Name of the base.

    Returns:
        The matplotlib figure.
    """
    nets, there = values_of(records, "net"), values_of(records, "rule", base=base)
    rules = [rule for rule in SAYS if rule in there]
    width, height = max(len(rules), 1), max(len(nets), 1)
    fig, axes = figures.panels(
        *(height, width),
        figsize=(1 + 2.5 * width, 0.9 + 2.2 * height),
        squeeze=False,
        sharex=True,
        sharey="row",
    )
    for row, net in zip(axes, nets, strict=False):
        row[0].set_ylabel(f"{net}\nheld-out accuracy, %")
        dense = curve(records, net=net, base=base, rule=DENSE)
        for panel, rule in zip(row, rules, strict=False):
            if panel in axes[0]:
                panel.set_title(rule)
            if dense is not None:
                _draw(panel, dense, 1)
                panel.axvline(dense.best, color=figures.DENSE, ls="--", lw=1)
            for depth in sorted(values_of(records, "depth")):
                found = curve(records, net=net, base=base, rule=rule, depth=depth)
                if found is not None:
                    _draw(panel, found, depth)
    rates = sorted(values_of(records, "lr", base=base))
    for panel in axes[-1]:
        panel.set_xlabel("lr")
    if rates:
        figures.plain_log(axes[0, 0].xaxis, rates)
        for panel in axes.flat:
            panel.tick_params(axis="x", labelrotation=60)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    fig.suptitle(f"{base}: accuracy by learning rate and rule", x=0.01, ha="left")
    return fig


def _draw(panel: Any, drawn: Curve, depth: int) -> None:
    colour = figures.DEPTH_COLOURS[depth]
    means = {lr: 100 * mean for lr, mean in drawn.means.items()}
    label = "dense" if depth == 1 else f"depth {depth}"
    panel.plot(list(means), list(means.values()), color=colour, label=label, lw=1.4)
    panel.plot(drawn.best, means[drawn.best], "o", color=colour, ms=6)
