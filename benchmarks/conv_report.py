"""The page and table of `benchmarks.conv`."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records import CONFIG, RESULT, Records, table, write_text

DENSE = ("torch", "onnxruntime", "OpenVINO")
SETS = ("avx512", "avx2")
# The layers whose geometric mean the limits are for.
JUDGED = ("64x64x3x3@32", "128x128x3x3@16", "256x256x3x3@8", "512x512x3x3@4")


class Limit(NamedTuple):
    """A speed-up over the best dense runtime that must be reached, with AVX-512."""

    batch: int
    zeros: float
    least: float


LIMITS = [
    Limit(16, 0.9, 2.7),
    Limit(16, 0.95, 5.0),
    Limit(16, 0.98, 9.5),
    Limit(16, 0.99, 14.0),
    Limit(1, 0.9, 2.3),
]
BREAK_EVEN = 0.6


def speed_up(result: dict[str, Any], way: str) -> float:
    """Return how many times as fast as the fastest dense runtime a way is."""
    return float(min(result[name] for name in DENSE) / result[way])


def write_report(records: Records, out: Path) -> None:
    """Write ``conv.md`` and ``conv.csv``."""
    if not records.rows:
        return
    write_text(out / "conv.csv", _csv(records))
    page = [
        "# Time of sparse convolutions\n",
        "Made by `python -m benchmarks.conv` from `conv.jsonl`. " + records.provenance(),
        """
Speed-up over the fastest of torch, onnxruntime and OpenVINO in float32, one thread, called from Python
with NCHW in and out. Medians over rounds in which every way takes its turn: a call that is not timed,
then calls for some milliseconds. All times are in `conv.csv`.

## Limits

Geometric means over """
        + ", ".join(JUDGED)
        + "; AVX-512.\n",
        table(["batch", "zeros", "limit", "reached", "AVX2", ""], _judged(records)),
        f"""
Break-even, where the sparse kernel is as fast as the fastest dense runtime (by geometric mean, between
the measured shares of zeros): {_break_even(records, 16)} at batch 16, {_break_even(records, 1)} at
batch 1; at or below {BREAK_EVEN} was asked for.
""",
    ]
    for batch in sorted({row[CONFIG]["batch"] for row in records.rows}):
        page += [
            f"## Batch {batch}\n",
            "Sparse kernel; AVX-512, with AVX2 in brackets.\n",
            _overview(records, batch, "sparse"),
            "\nDense kernel of the engine (AVX-512), for layers where the sparse one loses.\n",
            _overview(records, batch, "dense"),
            "",
        ]
    write_text(out / "conv.md", "\n".join(page))


def mean(records: Records, batch: int, zeros: float, way: str) -> float | None:
    """Return the geometric mean of speed-ups over the layers that are judged; None if one is missing."""
    found = [_find(records, layer, batch, zeros) for layer in JUDGED]
    if any(result is None or way not in result for result in found):
        return None
    return math.exp(sum(math.log(speed_up(r, way)) for r in found if r is not None) / len(found))


def _judged(records: Records) -> list[list[str]]:
    rows = []
    for limit in LIMITS:
        reached, avx2 = (mean(records, limit.batch, limit.zeros, f"sparse {name}") for name in SETS)
        verdict = "not run" if reached is None else "met" if reached >= limit.least else "**missed**"
        numbers = [_ratio(reached), _ratio(avx2)]
        rows.append([str(limit.batch), f"{limit.zeros:g}", f"{limit.least:g}", *numbers, verdict])
    return rows


def _break_even(records: Records, batch: int) -> str:
    """Find where the mean speed-up crosses one, on a line in logarithms between neighbours."""
    shares = sorted({row[CONFIG]["zeros"] for row in records.rows})
    points = [(share, mean(records, batch, share, "sparse avx512")) for share in shares]
    known = [(share, math.log(value)) for share, value in points if value is not None]
    if not known:
        return "not run"
    if known[0][1] >= 0:
        return f"at most {known[0][0]:g}"
    for (low, below), (high, above) in itertools.pairwise(known):
        if above >= 0:
            return f"{low + (high - low) * below / (below - above):.2f}"
    return f"above {known[-1][0]:g}"


def _overview(records: Records, batch: int, kernel: str) -> str:
    shares = sorted({row[CONFIG]["zeros"] for row in records.rows})
    layers: Sequence[str] = list(dict.fromkeys(row[CONFIG]["layer"] for row in records.rows))
    rows = []
    for layer in layers:
        cells = []
        for share in shares:
            result = _find(records, layer, batch, share) or {}
            ratios = [
                _ratio(speed_up(result, f"{kernel} {name}"))
                for name in SETS
                if f"{kernel} {name}" in result
            ]
            cells.append(f"{ratios[0]} ({ratios[1]})" if len(ratios) == 2 else "".join(ratios))
        rows.append([layer, *cells])
    return table(["layer", *(f"{share:g}" for share in shares)], rows)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _csv(records: Records) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "batch", "zeros", "way", "microseconds", "speed-up over best dense"])
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        for way, value in result.items():
            if way != "rounds":
                cells = [config["layer"], config["batch"], config["zeros"], way]
                writer.writerow([*cells, f"{value:.4g}", f"{speed_up(result, way):.4g}"])
    return text.getvalue()


def _find(records: Records, layer: str, batch: int, zeros: float) -> dict[str, Any] | None:
    config = {"layer": layer, "batch": batch, "zeros": zeros}
    return next((row[RESULT] for row in records.rows if row[CONFIG] == config), None)
