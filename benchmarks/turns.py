"""Timing several ways in turns, so that other load on the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, dict[int, float]]


def take_turns(
    ways: Mapping[str, Callable[[], float]], against: str, seconds: float, least: int = 3
) -> Times:
    """Let every way take its turn in every round, except that slow ones skip some.

    Args:
        ways: Each does its work and returns the seconds of what is to be timed.
        against: The way to compare with, which never skips.
        seconds: How long to go on, after the least number of rounds.
        least: Turns that each way takes at least.

    Returns:
        For each way its seconds, by round.
    """
    times: Times = {name: {} for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    start = time.perf_counter()
    number = 0
    while number < least or time.perf_counter() - start < seconds:
        for name, way in ways.items():
            # A way that has had its share of the time waits, so that quick ones have many rounds.
            if name != against and number >= least and spent[name] > seconds / len(ways):
                continue
            begun = time.perf_counter()
            times[name][number] = way()
            spent[name] += time.perf_counter() - begun
        number += 1
    return times


def ratios(times: Times, of: str, to: str) -> list[float]:
    """Return the ratio of two ways in every round that both took part in."""
    return [seconds / times[to][number] for number, seconds in times[of].items() if number in times[to]]


def median_and_quartiles(values: list[float]) -> tuple[float, tuple[float, float]]:
    """Return the middle of values and of their halves."""
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return middle, (low, high)
