"""Milliseconds of what came out, beside the full network, in torch and in onnxruntime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.dense_runtimes import Array, Call, onnx_runtime, torch_eager
from benchmarks.records import Records
from benchmarks.structured.choice import all_chosen
from benchmarks.structured.method import Settings
from benchmarks.structured.methods import METHODS
from benchmarks.structured.setups import SETUPS, Setup
from benchmarks.structured.units import norms, zero_
from benchmarks.turns import take_turns
from inference import shrink

BATCHES = (1, 64)
UNTRAINED = Settings(lr=0.0, momentum=0.0, strength=0.0, seed=0)
RUNTIMES: dict[str, Callable[[nn.Module, Array], Call]] = {
    "torch": lambda model, example: torch_eager(model),
    "onnxruntime": onnx_runtime,
}


def time_missing(setup: str, records: Records, timings: Records, seconds: float) -> None:
    """Time what the summary of a setup names, and what has not been timed."""
    cells = [
        {"setup": setup, "method": method, "units": list(units), "batch": batch}
        for method, units in sorted(
            {(one.config["method"], tuple(one.point["units"])) for one in all_chosen(records, setup)}
        )
        for batch in BATCHES
    ]
    for cell in tqdm([cell for cell in cells if not timings.has(cell)], unit="network"):
        timings.add(
            cell, time_units(SETUPS[setup], cell["method"], cell["units"], cell["batch"], seconds)
        )


def time_units(
    setup: Setup, method: str, units: Sequence[int], batch: int, seconds: float
) -> dict[str, Any]:
    """Time the full network and one with so many units in turns; how fast it is depends on no weights.

    Args:
        setup: Which network.
        method: What says how units are removed.
        units: Left in each layer.
        batch: Inputs of a call.
        seconds: How long to go on.

    Returns:
        Median milliseconds by size and runtime.
    """
    full = setup.build(0).eval()
    models = {"full": full, "small": of_size(setup, method, units)}
    example = setup.example(batch).numpy()
    calls = {
        f"{size} {runtime}": make(model, example)
        for size, model in models.items()
        for runtime, make in RUNTIMES.items()
    }
    for call in calls.values():
        call(example)  # the first call of a session takes longer
    ways = {name: partial(_seconds, call, example, max(1, 64 // batch)) for name, call in calls.items()}
    times = take_turns(ways, "full torch", seconds, least=5)
    return {name: 1e3 * statistics.median(values.values()) for name, values in times.items()}


def of_size(setup: Setup, method: str, units: Sequence[int]) -> nn.Module:
    """Build a network of which so many units of each layer are left."""
    model = setup.build(0).eval()
    groups = METHODS[method](setup.units(model), UNTRAINED).groups()
    for group, left in zip(groups, units, strict=True):
        count = len(norms(model, group))
        zero_(model, group, torch.arange(count) >= left)
    return shrink(model, setup.example(2), select_inputs=True)


def _seconds(call: Call, example: Array, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call(example)
    return (time.perf_counter() - start) / repeats
