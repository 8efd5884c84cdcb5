"""Speed-ups over the best dense runtime, judged by limits: what the pages of layers have in common."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.records import CONFIG, RESULT, Records, table

DENSE = ("torch", "onnxruntime", "OpenVINO")
SETS = ("avx512", "avx2")
AVX512, AVX2 = (f"sparse {name}" for name in SETS)
BREAK_EVEN = 0.6


class Limit(NamedTuple):
    """A speed-up that must be reached by one way to compute a layer."""

    batch: int
    zeros: float
    least: float
    way: str = AVX512


@dataclass(frozen=True)
class Judged:
    """Records whose configurations are a layer, a batch and a share of zeros.

    Attributes:
        records: Of microseconds, by way.
        layers: Over which geometric means are taken.
    """

    records: Records
    layers: Sequence[str]

    def find(self, layer: str, batch: int, zeros: float) -> dict[str, Any] | None:
        """Return the times of one configuration."""
        config = {"layer": layer, "batch": batch, "zeros": zeros}
        return next((row[RESULT] for row in self.records.rows if row[CONFIG] == config), None)

    def mean(self, batch: int, zeros: float, way: str) -> float | None:
        """Return the geometric mean of speed-ups over the layers; None if one is missing."""
        found = [self.find(layer, batch, zeros) for layer in self.layers]
        if any(result is None or way not in result for result in found):
            return None
        logs = [math.log(speed_up(result, way)) for result in found if result is not None]
        return math.exp(sum(logs) / len(logs))

    def verdict(self, limit: Limit) -> list[str]:
        """Return the cells of a limit: itself, what was reached, also with AVX2, and the verdict."""
        reached = self.mean(limit.batch, limit.zeros, limit.way)
        avx2 = self.mean(limit.batch, limit.zeros, AVX2) if limit.way == AVX512 else None
        return [f"{limit.least:g}", ratio(reached), ratio(avx2), met(reached, limit.least)]

    def break_even(self, batch: int) -> str:
        """Find where the mean speed-up crosses one, on a line in logarithms between neighbours."""
        points = [(share, self.mean(batch, share, AVX512)) for share in self.shares(batch)]
        known = [(share, math.log(value)) for share, value in points if value is not None]
        if not known:
            return "not run"
        if known[0][1] >= 0:
            return f"at most {known[0][0]:g}"
        for (low, below), (high, above) in itertools.pairwise(known):
            if above >= 0:
                return f"{low + (high - low) * below / (below - above):.2f}"
        return f"above {known[-1][0]:g}"

    def overview(self, batch: int, kernel: str, layers: Iterable[str]) -> str:
        """Return a table of layers by zeros: speed-ups with AVX-512, and with AVX2 in brackets."""
        shares = self.shares(batch)
        rows = []
        for layer in layers:
            cells = []
            for share in shares:
                result = self.find(layer, batch, share) or {}
                ways = [f"{kernel} {name}" for name in SETS]
                ratios = [ratio(speed_up(result, way)) for way in ways if way in result]
                cells.append(f"{ratios[0]} ({ratios[1]})" if len(ratios) == 2 else "".join(ratios))
            rows.append([layer, *cells])
        return table(["layer", *(f"{share:g}" for share in shares)], rows)

    def csv(self) -> str:
        """Return all times and speed-ups."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["layer", "batch", "zeros", "way", "microseconds", "speed-up over best dense"])
        for row in self.records.rows:
            config, result = row[CONFIG], row[RESULT]
            for way, value in result.items():
                cells = [config["layer"], config["batch"], config["zeros"], way]
                writer.writerow([*cells, f"{value:.4g}", f"{speed_up(result, way):.4g}"])
        return text.getvalue()

    def batches(self) -> list[int]:
        """Return the batch sizes that were measured."""
        return sorted({row[CONFIG]["batch"] for row in self.records.rows})

    def shares(self, batch: int) -> list[float]:
        """Return the shares of zeros that were measured at a batch size."""
        rows = [row[CONFIG] for row in self.records.rows]
        return sorted({config["zeros"] for config in rows if config["batch"] == batch})


def speed_up(result: dict[str, Any], way: str) -> float:
    """Return how many times as fast as the fastest dense runtime a way is."""
    return float(min(result[name] for name in DENSE) / result[way])


def ratio(value: float | None) -> str:
    """Write a speed-up in three digits."""
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def met(reached: float | None, least: float) -> str:
    """Say whether a limit is met."""
    return "not run" if reached is None else "met" if reached >= least else "**missed**"
