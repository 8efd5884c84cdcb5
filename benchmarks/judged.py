"""Speed-ups over the best dense runtime, judged by limits: what the pages of layers have in common."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.dense_runtimes import TORCH_COMPILE
from benchmarks.records import CONFIG, RESULT, Records, table
from benchmarks.roofline import ROOFLINE

# Where the last one was measured.
DENSE = ("torch", "onnxruntime", "OpenVINO", TORCH_COMPILE)
SETS = ("avx512", "avx2")
AVX512, AVX2 = (f"sparse {name}" for name in SETS)
BREAK_EVEN = 0.6
# Shares of zeros that training reaches.
REACHED = (0.9, 0.95, 0.98, 0.99)
ROOFLINE_TEXT = """
## Of the roofline

The least time that this machine could take at that moment is the larger of two: what the products with
weights that are not zero take at the rate of a dense 512x512x512 product in torch, and what reading
packed weights, input and output takes at the rate of `torch.dot`; both were timed in turns with the
rest. More than 1 says that a kernel reads faster than `torch.dot`, which is no limit of the memory's.
The part of that speed which the sparse AVX-512 kernel reaches, geometric means over the same layers:
"""


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

    def of_roofline(self, way: str) -> str:
        """Return a table of the part of the roofline's speed that a way reaches, by batch and zeros."""
        shares = sorted({share for batch in self.batches() for share in self.shares(batch)})
        rows = []
        for batch in self.batches():
            pairs = [(self.mean(batch, z, way), self.mean(batch, z, ROOFLINE)) for z in shares]
            cells = ["" if a is None or b is None else f"{a / b:.2f}" for a, b in pairs]
            rows.append([str(batch), *cells])
        return table(["batch", *(f"{share:g}" for share in shares)], rows)

    def others(self, ways: Mapping[str, str], batches: Iterable[int]) -> str:
        """Return a table of ways, by the names to print, at the shares of zeros that are reached."""
        rows = [
            [str(batch), name, *(ratio(self.mean(batch, zeros, way)) for zeros in REACHED)]
            for batch in batches
            for name, way in ways.items()
        ]
        return table(["batch", "way", *(f"{zeros:g}" for zeros in REACHED)], rows)

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
    return float(min(result[name] for name in DENSE if name in result) / result[way])


def ratio(value: float | None) -> str:
    """Write a speed-up in three digits."""
    return "" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def met(reached: float | None, least: float) -> str:
    """Say whether a limit is met."""
    return "not run" if reached is None else "met" if reached >= least else "**missed**"
