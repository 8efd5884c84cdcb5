"""What does each kind of ONNX file cost: bytes, microseconds, error?

Run as ``python -m benchmarks.onnx --data DIR``; what is in ``results/onnx.jsonl`` is skipped. Networks
are LeNet-300-100 as DWF trained it on MNIST (`benchmarks.trained`), and those of `benchmarks.networks`,
with random weights of which the smallest are zero. `inference.onnx.compare` lets all ways take turns in
one process, on one thread, from NumPy to NumPy.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import inference
from benchmarks.data import add_data_argument
from benchmarks.models import LENET_300_100
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.trained import AS_TRAINED, network
from inference.onnx import compare

SETS = ("lenet_300_100", "lenet_5", "mobilenet", "transformer_encoder")
ZEROS = (0.98, 0.99, 0.95)
BATCHES = (1, 64)
DENSE = "dense"
# For LeNet-300-100 at a compression of 50 and more; from the project's goals.
LEAST_GAIN = {("custom-op", 1): 2.5, ("custom-op", 64): 6.0, ("compact", 1): 1.0, ("compact", 64): 1.0}
LEAST_SHRINKAGE = {"sparse": 10.0}
# An artifact takes at most this times (6 bytes a nonzero + 8 bytes a row + 4 KB).
MOST_OF_FORMULA = 1.15
ENGINE = "engine"
# Sums of thousands of products in float32, in another order, over many layers.
TOLERANCE = 1e-5


def configurations() -> list[dict[str, Any]]:
    """List all, so that what is judged comes first."""
    pruned = [{"network": name, "zeros": zeros} for name, zeros in itertools.product(SETS, ZEROS)]
    return [{"network": SETS[0], "zeros": AS_TRAINED}, *pruned]


def measure(config: dict[str, Any], data: Path, seconds: float) -> dict[str, Any]:
    """Compare all ways to run one network.

    Args:
        config: One of `configurations`.
        data: Folder of MNIST.
        seconds: How long to measure each batch size.

    Returns:
        For every way its bytes, microseconds by batch size, and error; for the engine also what its file
        may take.

    Raises:
        ArithmeticError: If an output is not that of the model in float64.
    """
    torch.set_num_threads(1)
    model, shape = network(config["network"], config["zeros"], data)
    example = torch.randn(max(BATCHES), *shape, generator=torch.Generator().manual_seed(0))
    rows = compare(model, example, batch_sizes=BATCHES, seconds=seconds)
    for row in rows:
        if not row.error <= TOLERANCE:
            raise ArithmeticError(f"{row.name} is off by {row.error:.1e} at {config}")
    result = {
        row.name: {"bytes": row.bytes, "us": _as_text(row.microseconds), "error": row.error}
        for row in rows
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.dwf"
        inference.compile(model, example, plan="static").save(path)
        result[ENGINE]["bytes"] = path.stat().st_size
    weights = [p for p in model.parameters() if p.dim() >= 2]
    nonzero, rows_ = sum(int(p.count_nonzero()) for p in weights), sum(len(p) for p in weights)
    return {**result, "nonzero": nonzero, "formula": 6 * nonzero + 8 * rows_ + 4096}


def _as_text(times: Mapping[int, float]) -> dict[str, float]:
    # JSON has no numbers as keys.
    return {str(size): taken for size, taken in times.items()}


def report(records: Records) -> str:
    """Write the page."""
    rows = []
    for record in records.rows:
        config, result = record[CONFIG], record[RESULT]
        dense = result[DENSE]
        ways = {name: way for name, way in result.items() if isinstance(way, dict)}
        for name, way in ways.items():
            times = {size: way["us"][str(size)] for size in BATCHES}
            gains = {size: dense["us"][str(size)] / taken for size, taken in times.items()}
            shrinkage = dense["bytes"] / way["bytes"]
            rows.append(
                [
                    config["network"],
                    str(config["zeros"]),
                    name,
                    f"{way['bytes']:,}",
                    f"{shrinkage:.1f}",
                    *(f"{times[size]:.1f}" for size in BATCHES),
                    *(f"{gains[size]:.2f}" for size in BATCHES),
                    f"{way['error']:.1e}",
                    _verdict(config, name, gains, shrinkage, way["bytes"] / result["formula"]),
                ]
            )
    header = [
        *("network", "zeros", "way", "bytes", "dense bytes / bytes"),
        *(f"us at batch {size}" for size in BATCHES),
        *(f"dense us / us at batch {size}" for size in BATCHES),
        *("largest error", "goals"),
    ]
    return "\n".join(
        [
            "# Kinds of ONNX files\n",
            "Made by `python -m benchmarks.onnx` from `onnx.jsonl`. " + records.provenance(),
            f"""
onnxruntime on one thread, all ways in turns in one process, medians over turns of 2 ms of calls after
one that is not timed; from NumPy to NumPy. "engine" is `inference.compile(plan="static")` in Python, and
its bytes are those of the artifact. "as trained" is LeNet-300-100 as DWF trained it on MNIST (depth 3,
penalty 2e-4, `benchmarks.trained`{_left(records)}); the other networks have random
weights (magnitudes pruned to the share of zeros), which says nothing of accuracy and little of dead
units: trained networks have more of them. Errors are shares of the largest output.
""",
            table(header, rows),
            "",
        ]
    )


def _left(records: Records) -> str:
    """Say how many weights the trained network has."""
    total = sum(math.prod(pair) for pair in itertools.pairwise(LENET_300_100))
    for row in records.rows:
        if row[CONFIG]["zeros"] == AS_TRAINED:
            left = row[RESULT]["nonzero"]
            return f"; {left:,} of {total:,} weights, compression {total / left:.0f}"
    return ""


def _verdict(
    config: dict[str, Any], name: str, gains: dict[int, float], shrinkage: float, of_formula: float
) -> str:
    if config["network"] != SETS[0] or config["zeros"] not in (AS_TRAINED, *ZEROS[:2]):
        return ""
    goals = [
        (f"{limit:g}x at batch {size}", gains[size] >= limit)
        for (way, size), limit in LEAST_GAIN.items()
        if way == name
    ]
    if name == ENGINE:
        goals.append(
            (f"{of_formula:.2f} of the formula, {MOST_OF_FORMULA:g}", of_formula <= MOST_OF_FORMULA)
        )
    if name in LEAST_SHRINKAGE:
        goals.append((f"1/{LEAST_SHRINKAGE[name]:g} of the bytes", shrinkage >= LEAST_SHRINKAGE[name]))
    return ", ".join(f"{goal}: {'met' if met else '**missed**'}" for goal, met in goals)


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. zeros=0.98"
    )
    arguments = parser.parse_args()
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "onnx.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.data, arguments.seconds))
    write_text(arguments.out / "onnx.md", report(records))


if __name__ == "__main__":
    main()
