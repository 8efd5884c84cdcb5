"""What each method saves at most where accuracy may fall by so much."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.records import CONFIG, RESULT, Records
from benchmarks.structured.methods import METHODS

# Of accuracy, against the dense network that was trained for as many epochs.
ALLOWED = (0.005, 0.05, 0.1)
REFERENCE = "dense"


class Chosen(NamedTuple):
    """A network that came out of a run.

    Attributes:
        config: Of the run.
        point: Of the run's points.
    """

    config: dict[str, Any]
    point: dict[str, Any]

    @property
    def saved(self) -> float:
        """Return the operations of the full network over those that are left."""
        before, after = self.point["flops"]
        return float(before / max(1, after))


def rows_of(records: Records, setup: str, method: str | None = None) -> list[dict[str, Any]]:
    """Return the runs of a setup, of all methods or one."""
    return [
        row
        for row in records.rows
        if row[CONFIG]["setup"] == setup and method in (None, row[CONFIG]["method"])
    ]


def reference(records: Records, setup: str) -> dict[str, Any] | None:
    """Return the result of the dense network; None before it is run."""
    rows = rows_of(records, setup, REFERENCE)
    return rows[0][RESULT] if rows else None


def choose(records: Records, setup: str, method: str, allowed: float) -> Chosen | None:
    """Choose by validation accuracy, over strengths and shares; None where no network is good enough.

    Args:
        records: All runs.
        setup: In `benchmarks.structured.setups.SETUPS`.
        method: In `METHODS`.
        allowed: How much less than the dense network's accuracy will do.
    """
    best = reference(records, setup)
    if best is None:
        return None
    good = [
        Chosen(row[CONFIG], point)
        for row in rows_of(records, setup, method)
        for point in row[RESULT]["points"]
        if point["validation"] >= best["validation"] - allowed
    ]
    return max(good, key=lambda chosen: chosen.saved, default=None)


def all_chosen(records: Records, setup: str) -> list[Chosen]:
    """List the networks that the summary of a setup names."""
    found = [choose(records, setup, method, allowed) for method in METHODS for allowed in ALLOWED]
    return [chosen for chosen in found if chosen is not None]
