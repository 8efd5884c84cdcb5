"""Timing several ways in turns, so that other load on the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

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
