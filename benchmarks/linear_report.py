"""The page and table of `benchmarks.linear`."""

from __future__ import annotations

import csv
import io
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records import CONFIG, RESULT, Records, table, write_text

DENSE = ("torch", "onnxruntime", "OpenVINO")
AVX512, AVX2, OWN_LAYOUT = "sparse avx512", "sparse avx2", "sparse, own layout"
LENET = "LeNet-300-100"
JUDGED = ("300x784", "100x300", "512x512", "1024x1024", "4096x1024", "4096x4096")


class Limit(NamedTuple):
    """A speed-up that must be reached, with AVX-512."""

    batch: int
    zeros: float
    least: float
    way: str = AVX512


LIMITS = [
    *(Limit(64, zeros, least) for zeros, least in ((0.9, 4.5), (0.95, 7), (0.98, 11), (0.99, 17))),
    *(Limit(64, z, least, OWN_LAYOUT) for z, least in ((0.9, 6), (0.95, 10), (0.98, 22), (0.99, 42))),
    Limit(1, 0.9, 4.6),
    Limit(1, 0.99, 13),
]
LENET_ZEROS = 0.98
LENET_LIMITS = {1: 10, 64: 12}
BREAK_EVEN = 0.6


def speed_up(result: dict[str, Any], way: str) -> float:
    """Return how many times as fast as the fastest dense runtime a way is."""
    return float(min(result[name] for name in DENSE) / result[way])


def write_report(records: Records, out: Path) -> None:
    """Write ``linear.md`` and ``linear.csv``."""
    if not records.rows:
        return
    write_text(out / "linear.csv", _csv(records))
    header = ["batch", "zeros", "called with", "limit", "reached", "AVX2", ""]
    page = [
        "# Time of sparse linear layers\n",
        "Made by `python -m benchmarks.linear` from `linear.jsonl`. " + records.provenance(),
        """
Speed-up over the fastest of torch, onnxruntime and OpenVINO in float32, one thread, called from Python
with rows of samples in and out, or where said in the kernels' own layout, features by 64 samples.
Medians over rounds in which every way takes its turn. All times are in `linear.csv`.

## Limits

Geometric means over """
        + ", ".join(JUDGED)
        + "; AVX-512.\n",
        table(header, _judged(records)),
        f"\n{LENET} at {LENET_ZEROS} zeros, one call, against onnxruntime:\n",
        table(["batch", "onnxruntime, us", "ours, us", "limit", "reached", ""], _lenet(records)),
        f"""
Break-even, where the sparse kernel is as fast as the fastest dense runtime (by geometric mean, between
the measured shares of zeros): {_break_even(records, 64)} at batch 64, {_break_even(records, 1)} at
batch 1; at or below {BREAK_EVEN} was asked for.
""",
    ]
    for batch in sorted({row[CONFIG]["batch"] for row in records.rows}):
        page += [
            f"## Batch {batch}\n",
            "Sparse kernel; AVX-512, with AVX2 in brackets.\n",
            _overview(records, batch, "sparse"),
            "\nDense kernel of the engine, for layers where the sparse one loses.\n",
            _overview(records, batch, "dense"),
            "",
        ]
    write_text(out / "linear.md", "\n".join(page))


def mean(records: Records, batch: int, zeros: float, way: str) -> float | None:
    """Return the geometric mean of speed-ups over the layers that are judged; None if one is missing."""
    found = [_find(records, layer, batch, zeros) for layer in JUDGED]
    if any(result is None or way not in result for result in found):
        return None
    return math.exp(sum(math.log(speed_up(r, way)) for r in found if r is not None) / len(found))


def _judged(records: Records) -> list[list[str]]:
    rows = []
    for limit in LIMITS:
        reached = mean(records, limit.batch, limit.zeros, limit.way)
        avx2 = mean(records, limit.batch, limit.zeros, AVX2) if limit.way == AVX512 else None
        verdict = "not run" if reached is None else "met" if reached >= limit.least else "**missed**"
        layout = "rows" if limit.way == AVX512 else "own layout"
        cells = [str(limit.batch), f"{limit.zeros:g}", layout, f"{limit.least:g}"]
        rows.append([*cells, _ratio(reached), _ratio(avx2), verdict])
    return rows


def _lenet(records: Records) -> list[list[str]]:
    rows = []
    for batch, least in LENET_LIMITS.items():
        result = _find(records, LENET, batch, LENET_ZEROS)
        if result is None:
            rows.append([str(batch), "", "", f"{least:g}", "", "not run"])
            continue
        ratio = result["onnxruntime"] / result[AVX512]
        times = [f"{result[way]:.1f}" for way in ("onnxruntime", AVX512)]
        verdict = "met" if ratio >= least else "**missed**"
        rows.append([str(batch), *times, f"{least:g}", _ratio(ratio), verdict])
    return rows


def _break_even(records: Records, batch: int) -> str:
    """Find where the mean speed-up crosses one, on a line in logarithms between neighbours."""
    shares = sorted({row[CONFIG]["zeros"] for row in records.rows})
    points = [(share, mean(records, batch, share, AVX512)) for share in shares]
    known = [(share, math.log(value)) for share, value in points if value is not None]
    if not known:
        return "not run"
    if known[0][1] >= 0:
        return f"below {known[0][0]:g}"
    for (low, below), (high, above) in itertools.pairwise(known):
        if above >= 0:
            return f"{low + (high - low) * below / (below - above):.2f}"
    return f"above {known[-1][0]:g}"


def _overview(records: Records, batch: int, kernel: str) -> str:
    shares = sorted({row[CONFIG]["zeros"] for row in records.rows if row[CONFIG]["batch"] == batch})
    rows = []
    for layer in (*JUDGED, LENET):
        cells = []
        for share in shares:
            result = _find(records, layer, batch, share) or {}
            ways = [f"{kernel} {name}" for name in ("avx512", "avx2")]
            ratios = [_ratio(speed_up(result, way)) for way in ways if way in result]
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
