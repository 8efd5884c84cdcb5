"""What an analysis is, and what all of them read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.analyses.runs import Config, configuration
from benchmarks.records import CONFIG, RESULT, Records

Result = dict[str, Any]
NOTHING = "–"


class Runs:
    """The runs that are there.

    Args:
        records: Of `benchmarks.analyses.runs`.
    """

    def __init__(self, records: Records) -> None:
        self.records = records

    def of(self, **changes: Any) -> Result | None:
        """Return the result of the usual run with changes, if it is there."""
        wanted = configuration(**changes)
        return next((row[RESULT] for row in self.records.rows if row[CONFIG] == wanted), None)

    def lacking(self, configs: Sequence[Config]) -> str:
        """Say how many of some runs are not there; nothing if all are."""
        count = sum(not self.records.has(config) for config in configs)
        many = f"**{count} of {len(configs)} runs are not run yet**, and left out: "
        return many + "`python -m benchmarks.analyses run`.\n" if count else ""


class Analysis(Protocol):
    """A file of this folder."""

    def configurations(self) -> list[Config]:
        """List the runs that it reads."""

    def page(self, runs: Runs) -> str:
        """Write its page, without heading of the runs."""

    def draw(self, runs: Runs) -> Any:
        """Draw its figure."""


def percent(value: float) -> str:
    """Write an accuracy in percent."""
    return f"{100 * value:.2f}"


def outcome(result: Result | None) -> list[str]:
    """Write the cells of `OUTCOME`."""
    if result is None:
        return [NOTHING] * len(OUTCOME)
    collapsed = result["collapsed"]
    if collapsed is None:
        return ["diverged", *[NOTHING] * (len(OUTCOME) - 1)]
    return [
        percent(result["test"]),
        f"{result['history']['sparsity'][-1]:.3f}",
        percent(collapsed["test"]),
        f"{collapsed['compression']:.1f}",
    ]


OUTCOME = ["test, %", "zeros at 1e-3", "test collapsed, %", "compression"]


def column(result: Result, name: str) -> tuple[list[int], list[float]]:
    """Return steps and what was seen there."""
    history = result["history"]
    return history["step"], history[name]


def misaligned(result: Result) -> tuple[list[int], list[float]]:
    """Return steps and the misalignment, as a part of the factors' penalty at the first of them."""
    history = result["history"]
    start = history["misalignment"][0] + history["quasi_norm"][0]
    return history["step"], [more / start if start > 0 else 0.0 for more in history["misalignment"]]


def legend(axis: Any, **options: Any) -> None:
    """Give an axis a legend if any of its runs is there."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(**options)
