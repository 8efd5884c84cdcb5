"""The page and table of `benchmarks.iteration`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table, write_text

DENSE, PARAMETRIZE = "dense", "parametrize"
WAYS = (DENSE, PARAMETRIZE, "full", "tied")
COLUMNS = ("model", "depth", "threads")
# What must be reached on the MLP at depth 3 with every factor kept.
JUDGED = {"model": "MLP 784-300-100-10", "depth": 3}
MOST_OF_DENSE = 1.08
LEAST_GAIN = 1.4


def write_report(records: Records, out: Path) -> None:
    """Write ``iteration.md`` and ``iteration.csv``."""
    if not records.rows:
        return
    write_text(out / "iteration.csv", _csv(records))
    page = [
        "# Time of a training iteration\n",
        "Made by `python -m benchmarks.iteration` from `iteration.jsonl`. " + records.provenance(),
        """
Forward, backward, step and zero_grad on one batch: 64 for the MLP and LeNet-5, 128 images of 32x32 for
the ResNet. Ratios to the same model trained dense by `torch.optim.SGD` with momentum, fused: medians
over rounds in which every way takes its turn. "parametrize" computes the product of factors in every
forward pass by `torch.nn.utils.parametrize`, and steps them by the same optimizer with weight decay.
"full" and "tied" are `DWFOptimizer` with that storage, and otherwise as it is without options.

All that the MLP's step works on lies in the outer cache, and what moves there is its floor. By weight,
dense reads 12 bytes (weight, gradient, momentum) and writes 8; full storage reads 8 D + 8 and writes
8 D + 4: at depth 3 it moves three times as much, and tied storage 1.4 times.

Where dense with two threads takes more than twice its time with one, its threads stall, and nothing is
judged.

## Limits
""",
        table(["", "threads", "limit", "measured", ""], _judged(records)),
        "\n## All\n",
        table([*COLUMNS, "dense, ms", *WAYS[1:], "parametrize / full"], _overview(records)),
    ]
    write_text(out / "iteration.md", "\n".join(page))


def _judged(records: Records) -> list[list[str]]:
    rows = []
    alone = _find(records, 1)
    for threads in (1, 2):
        result = _find(records, threads)
        what = ("full / dense", f"<= {MOST_OF_DENSE}"), ("parametrize / full", f">= {LEAST_GAIN}")
        if result is None:
            rows += [[name, str(threads), limit, "", "not run"] for name, limit in what]
            continue
        ratio, gain = result["full"]["ratio"], result["faster than parametrize"]
        met = ratio <= MOST_OF_DENSE, gain >= LEAST_GAIN
        # A ratio of two times that are mostly waiting says nothing of the step.
        stalled = alone is not None and result[DENSE]["ms"] > 2 * alone[DENSE]["ms"]
        for (name, limit), value, good in zip(what, (ratio, gain), met, strict=True):
            verdict = "not judged: dense stalls" if stalled else "met" if good else "**missed**"
            rows.append([name, str(threads), limit, f"{value:.2f}", verdict])
    return rows


def _find(records: Records, threads: int) -> dict[str, Any] | None:
    config = {**JUDGED, "threads": threads}
    return next((row[RESULT] for row in records.rows if row[CONFIG] == config), None)


def _overview(records: Records) -> list[list[str]]:
    rows = []
    for row in sorted(records.rows, key=lambda row: row[CONFIG]["threads"]):
        result: dict[str, Any] = row[RESULT]
        cells = [str(row[CONFIG][key]) for key in COLUMNS]
        ratios = [f"{result[way]['ratio']:.2f}" for way in WAYS[1:]]
        gain = f"{result['faster than parametrize']:.2f}"
        rows.append([*cells, f"{result[DENSE]['ms']:.2f}", *ratios, gain])
    return rows


def _csv(records: Records) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "way", "ms", "ratio", "lower quartile", "upper quartile"])
    for row in records.rows:
        for way in WAYS:
            result = row[RESULT][way]
            numbers = [result["ms"], result["ratio"], *result["quartiles"]]
            cells = [f"{number:.4g}" for number in numbers]
            writer.writerow([*(row[CONFIG][key] for key in COLUMNS), way, *cells])
    return text.getvalue()
