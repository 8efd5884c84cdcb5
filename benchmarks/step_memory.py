"""How much memory does an optimizer need beyond weights and gradients, at its peak?

`benchmarks.step` runs this once for each configuration, in a process of its own: what an earlier one
has left in the heap would hide what the next one needs.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.shapes import elements
from benchmarks.step_ways import (
    BASES,
    DENSE,
    LR,
    PARAMETRIZE,
    Config,
    make_optimizer,
    make_parameters,
    make_parametrized,
)
from dwf_optim.storage import STORAGES

SET, BASE, DEPTH = "resnet18", "SGD momentum", 3
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def configurations() -> list[Config]:
    """List all that is measured."""
    ways = [("full", DENSE), ("full", PARAMETRIZE), ("full", "reference")]
    ways += [(storage, path) for storage in STORAGES for path in ("blocked", "native")]
    return [
        {"set": SET, "base": BASE, "depth": DEPTH, "storage": storage, "path": path}
        for storage, path in ways
    ]


def in_a_process(config: Config) -> dict[str, Any]:
    """Return what `measure` finds in a new process."""
    command = [sys.executable, "-m", "benchmarks.step_memory", json.dumps(config)]
    # Freed memory goes back to the system at once: what is kept for later is not needed now.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(config: Config) -> dict[str, Any]:
    """Step a few times and return bytes per parameter beyond weights and gradients.

    Returns:
        By torch's allocator and by the process's resident memory: the peak while the optimizer is made
        and takes two steps (``start``), and in the two steps after these (``steady``).
    """
    torch.set_num_threads(1)
    _beginning({**config, "set": "lenet300"})()  # loads code
    found: dict[str, dict[str, float]] = {"start": {}, "steady": {}}
    for what, peak in (("resident", _resident_peak), ("allocator", _allocated_peak)):
        begin = _beginning(config)
        step, start = peak(begin)
        _, steady = peak(functools.partial(_twice, step))
        for when, value in (("start", start.peak), ("steady", start.left + steady.peak)):
            found[when][what] = value / elements(config["set"])
        del begin, step
    return found


class Peak(NamedTuple):
    """Bytes above those at the beginning."""

    peak: int
    left: int  # at the end


def _beginning(config: Config) -> Callable[[], Callable[[], Any]]:
    """Return what makes the optimizer of a path, takes two steps and returns what takes the next."""
    base, options, _ = BASES[config["base"]]
    parameters = make_parameters(config["set"])

    def begin() -> Callable[[], Any]:
        step: Callable[[], Any]
        if config["path"] == DENSE:
            step = base(parameters, lr=LR, fused=True, **options).step
        elif config["path"] == PARAMETRIZE:
            step = make_parametrized(config, parameters)
        else:
            optimizer = make_optimizer(config, parameters)
            optimizer.backend = config["path"]
            step = optimizer.step
        for _ in range(2):
            step()
        return step

    return begin


def _twice(step: Callable[[], Any]) -> None:
    step()
    step()


def _allocated_peak(work: Callable[[], Any]) -> tuple[Any, Peak]:
    """Work, and add up what torch's allocator tells the profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        done = work()
    recorded: Any = profiler.profiler
    events = recorded.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = list(itertools.accumulate((change for _, change in changes), initial=0))
    return done, Peak(max(held), held[-1])


def _resident_peak(work: Callable[[], Any]) -> tuple[Any, Peak]:
    """Work, and ask the system."""
    before = _resident("VmRSS")
    CLEAR.write_text("5")  # forgets the peak
    done = work()
    return done, Peak(_resident("VmHWM") - before, _resident("VmRSS") - before)


def _resident(what: str) -> int:
    """Return a number of the process's status, in bytes."""
    lines = STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what + ":"))


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
