"""What does it cost to notice writes from outside, as a share of a step?

Run as ``python -m benchmarks.outside_writes``; runs that are in ``results/outside_writes.jsonl`` are
skipped.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from dwf_optim import DWFOptimizer
from dwf_optim.step import native
from dwf_optim.store import FactorStore

MODELS: dict[str, list[tuple[int, ...]]] = {
    "12 matrices of 2048 x 2048": [(2048, 2048)] * 12,
    "convolutions of a ResNet-50, doubled": [
        shape
        for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3))
        for shape in [(width, 4 * width, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
        * blocks
        * 2
    ],
}
BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "SGD, momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "RMSprop": (torch.optim.RMSprop, {}),
}
WAYS = [("native", "SGD, momentum"), ("blocked", "SGD, momentum"), ("blocked", "RMSprop")]
DEPTHS = (2, 3, 4)
ROUNDS = 25


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Add up the seconds that steps spend on looking for writes, in a list of one number."""
    spent = [0.0]
    original = FactorStore._is_ours

    def clocked(*args: Any) -> bool:
        start = time.perf_counter()
        answer = original(*args)
        spent[0] += time.perf_counter() - start
        return answer

    with mock.patch.object(FactorStore, "_is_ours", clocked):
        yield spent


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Time steps, and the part of each that is spent on looking for writes."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        nn.Parameter(0.02 * torch.randn(shape, generator=generator)) for shape in MODELS[config["model"]]
    ]
    base, options = BASES[config["base"]]
    optimizer = DWFOptimizer(
        weights,
        lr=1e-4,
        base=base,
        penalty=1e-4,
        depth=config["depth"],
        lr_scale=1.0,
        backend=config["backend"],
        **options,
    )
    for weight in weights:
        weight.grad = 1e-3 * torch.randn(weight.shape, generator=generator)
    for _ in range(2):
        optimizer.step()
    measure = compare_in_the_pass if config["backend"] == "native" else compare_before
    steps, checks = measure(optimizer)
    return {
        "weights": sum(weight.numel() for weight in weights),
        "step_ms": round(1e3 * statistics.median(steps), 2),
        "check_ms": round(1e3 * statistics.median(checks), 3),
        "share": round(statistics.median(c / s for c, s in zip(checks, steps, strict=True)), 5),
    }


def compare_before(optimizer: DWFOptimizer) -> tuple[list[float], list[float]]:
    """Time steps that look for writes before they begin, and the looking itself."""
    steps, checks = [], []
    with stopwatch() as spent:
        for _ in range(ROUNDS):
            spent[0] = 0.0
            steps.append(timed(optimizer.step))
            checks.append(spent[0])
    return steps, checks


def compare_in_the_pass(optimizer: DWFOptimizer) -> tuple[list[float], list[float]]:
    """Time steps that look as they go, and how much less the next step takes that does not."""
    steps, checks = [], []
    for _ in range(ROUNDS):
        steps.append(timed(optimizer.step))
        with mock.patch.object(native, "COMPARE", False):
            checks.append(steps[-1] - timed(optimizer.step))
    return steps, checks


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def configurations() -> list[dict[str, Any]]:
    """List all runs."""
    return [
        {"model": model, "backend": backend, "base": base, "depth": depth}
        for model, (backend, base), depth in itertools.product(MODELS, WAYS, DEPTHS)
    ]


def report(records: Records) -> str:
    """Write the Markdown page."""
    rows = [
        [
            row[CONFIG]["model"],
            f"{row[RESULT]['weights'] / 1e6:.1f} M",
            row[CONFIG]["backend"],
            row[CONFIG]["base"],
            str(row[CONFIG]["depth"]),
            f"{row[RESULT]['step_ms']:.0f}",
            f"{row[RESULT]['check_ms']:.1f}",
            f"{100 * row[RESULT]['share']:.2f} %",
        ]
        for row in records.rows
    ]
    header = ["model", "weights", "backend", "base", "depth", "step, ms", "check, ms", "check / step"]
    worst = max(row[RESULT]["share"] for row in records.rows)
    return "\n".join(
        [
            "# What noticing writes from outside costs\n",
            "Made by `python -m benchmarks.outside_writes` from `outside_writes.jsonl`. "
            + records.provenance(),
            f"""
Blocked: before a step the optimizer looks at version and address of every weight and factor, and
compares a sample of every weight with its factors; medians of {ROUNDS} steps and of the time in each
that goes into this. Native: the kernel compares all of every weight with its factors on its way;
medians of {ROUNDS} steps, and of what the next step takes less that does not compare. Below zero is
noise. The largest share is {100 * worst:.2f} %.
""",
            table(header, rows),
        ]
    )


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    records = Records(out / "outside_writes.jsonl")
    for config in tqdm([c for c in configurations() if not records.has(c)], unit="run"):
        records.add(config, run(config))
    write_text(out / "outside_writes.md", report(records))
    print(f"wrote {out / 'outside_writes.md'}")


if __name__ == "__main__":
    main()
