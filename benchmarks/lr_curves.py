"""Accuracy against learning rate: one curve for each network, base, rule and depth of `lr_study`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.records import CONFIG, RESULT, Records

DENSE = "dense"
# Training failed when its loss became non-finite, or its accuracy is below this part of the best one.
FAILURE = 0.5
# A curve begins with the rates up to so many steps of the grid from the dense best one, and goes on
# until its own best has that many on both sides.
REACH = 1


@dataclass(frozen=True)
class Curve:
    """How well training went at each learning rate.

    Attributes:
        accuracies: By rate, upwards; one number a seed, 0 where the loss became non-finite.
    """

    accuracies: dict[float, tuple[float, ...]]

    @property
    def means(self) -> dict[float, float]:
        """Mean accuracy over the seeds, by rate."""
        return {lr: statistics.fmean(each) for lr, each in self.accuracies.items()}

    @property
    def best(self) -> float:
        """The rate of the highest mean among those run with most seeds; of equals the lowest."""
        seeds = max(map(len, self.accuracies.values()))
        means = self.means
        return max((lr for lr in means if len(self.accuracies[lr]) == seeds), key=means.__getitem__)

    @property
    def height(self) -> float:
        """Mean accuracy at the best rate."""
        return self.means[self.best]

    def boundary(self) -> float | None:
        """Return the lowest rate above the best at which a seed failed; None if none that was run."""
        failed = (
            lr
            for lr, each in self.accuracies.items()
            if lr > self.best and min(each) < FAILURE * self.height
        )
        return min(failed, default=None)


def curve(records: Records, **wanted: Any) -> Curve | None:
    """Collect the runs whose configurations hold all of these; None if there are none."""
    found: dict[float, list[float]] = {}
    for row in records.rows:
        if wanted.items() <= row[CONFIG].items():
            result = row[RESULT]
            accuracy = result["accuracy"] if result["finite"] else 0.0
            found.setdefault(row[CONFIG]["lr"], []).append(accuracy)
    return Curve({lr: tuple(found[lr]) for lr in sorted(found)}) if found else None


def around(rates: Sequence[float], centre: float, reach: int) -> list[float]:
    """Return the rates of the grid at most ``reach`` steps from ``centre``."""
    place = rates.index(centre)
    return list(rates[max(0, place - reach) : place + reach + 1])


def missing_rates(rates: Sequence[float], dense_best: float, found: Curve | None) -> list[float]:
    """Return the rates to run next: around the dense best one, then around the best so far."""
    done = {} if found is None else found.means
    first = [lr for lr in around(rates, dense_best, REACH) if lr not in done]
    if first or found is None:
        return first
    return [lr for lr in around(rates, found.best, REACH) if lr not in done]


@dataclass(frozen=True)
class Match:
    """How a rule's curve at one depth lies to the dense one.

    Attributes:
        shift: Steps of the grid from the dense best rate to this one's.
        seen: Whether the rates on both sides of this one's best were run; else the peak may lie beyond.
        lost: Accuracy at this one's best rate less that at the dense best rate, which is what a user
            loses who keeps the dense rate.
    """

    shift: int
    seen: bool
    lost: float

    @property
    def holds(self) -> bool:
        """Whether the peak is known to be within one step of the dense one."""
        return self.seen and abs(self.shift) <= 1


def match(rates: Sequence[float], dense: Curve, other: Curve) -> Match:
    """Compare a rule's curve with the dense one; ``other`` must have been run at the dense best rate."""
    means = other.means
    seen = set(around(rates, other.best, REACH)) <= set(means)
    shift = rates.index(other.best) - rates.index(dense.best)
    return Match(shift, seen, other.height - means[dense.best])


def worst_first(matches: Iterable[Match]) -> tuple[int, float]:
    """Return what rules are ranked by: the largest shift either way, then the mean loss."""
    each = list(matches)
    return max(abs(m.shift) for m in each), statistics.fmean(m.lost for m in each)


def values_of(records: Records, key: str, **wanted: Any) -> list[Any]:
    """Return the values that runs with these options have for a key, in order of appearance."""
    configs = [row[CONFIG] for row in records.rows]
    return list(dict.fromkeys(c[key] for c in configs if wanted.items() <= c.items()))
