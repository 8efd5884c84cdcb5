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


# Seconds of a burst, and how many each way has at least.
BURST = 2e-3
LEAST_BURSTS = 5


def medians_of_bursts(ways: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Time ways in turns of many calls: as where one model is called again and again, caches warm.

    Args:
        ways: Each does its work once.
        seconds: How long to go on; at least `LEAST_BURSTS` turns each.

    Returns:
        For each way the median over turns of the seconds of a call.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or any(len(t) < LEAST_BURSTS for t in times.values()):
        for name, run in ways.items():
            times[name].append(_burst(run))
    return {name: statistics.median(taken) for name, taken in times.items()}


def _burst(run: Callable[[], object]) -> float:
    run()  # what others left in the caches is not this one's fault
    calls, passed, start = 0, 0.0, time.perf_counter()
    while passed < BURST:
        run()
        calls += 1
        passed = time.perf_counter() - start
    return passed / calls
