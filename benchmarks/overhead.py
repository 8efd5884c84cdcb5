"""What does a call of a compiled network cost from Python, whatever the network?

Run as ``python -m benchmarks.overhead``; what is in ``results/overhead.jsonl`` is skipped. The network
is two products with 8 x 8 weights, which are over in nanoseconds: what a call takes is the call. Every
way takes its turn in every round, in one process, as in `benchmarks.engine`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import inference
from benchmarks.dense_runtimes import onnx_runtime, torch_eager
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from inference.turns import medians_of_bursts

FEATURES = 8
ZEROS = 0.75
LIMIT = 2.0
WITH_OUT = "NumPy, out="
WAYS = (WITH_OUT, "NumPy", "tensor, out=", "tensor", "onnxruntime", "torch")
BATCHES = (1, 16)


def network() -> nn.Sequential:
    """Build the network, with a quarter of its weights left."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES))
        for layer in (part for part in made if isinstance(part, nn.Linear)):
            nn.init.normal_(layer.weight)
            layer.weight.data[torch.rand_like(layer.weight) < ZEROS] = 0
    return made.eval()


def measure(batch: int, seconds: float) -> dict[str, float]:
    """Time calls of every kind, in turns.

    Args:
        batch: Samples a call.
        seconds: How long to go on.

    Returns:
        Median microseconds of a call.

    Raises:
        RuntimeError: If the network did not become one native call.
    """
    torch.set_num_threads(1)
    model, tensor = network(), torch.randn(batch, FEATURES)
    compiled = inference.compile(model, tensor, batch_sizes=(batch,), plan="static")
    if not compiled.plan.choices[batch].native:
        raise RuntimeError("the plan chose torch: there is no native call to time")
    array = tensor.numpy()
    ways: dict[str, Callable[[], Any]] = {
        WITH_OUT: partial(compiled, array, out=compiled(array)),
        "NumPy": partial(compiled, array),
        "tensor, out=": partial(compiled, tensor, out=compiled(tensor)),
        "tensor": partial(compiled, tensor),
        "onnxruntime": partial(onnx_runtime(model, array), array),
        "torch": partial(torch_eager(model), array),
    }
    return {name: 1e6 * taken for name, taken in medians_of_bursts(ways, seconds).items()}


def report(records: Records) -> str:
    """Write the page."""
    rows = [
        [
            str(row[CONFIG]["batch"]),
            *(f"{row[RESULT][name]:.2f}" for name in WAYS),
            f"{LIMIT:g}: " + ("met" if row[RESULT][WITH_OUT] <= LIMIT else "**missed**"),
        ]
        for row in records.rows
    ]
    return "\n".join(
        [
            "# What a call costs\n",
            "Made by `python -m benchmarks.overhead` from `overhead.jsonl`. " + records.provenance(),
            f"""
Microseconds of a whole call from Python, medians over turns in one process, one thread: a network of two
{FEATURES} x {FEATURES} layers, whose arithmetic takes next to nothing. The limit is of "{WITH_OUT}".
The last two are the same network in dense runtimes, from NumPy to NumPy.
""",
            table(["batch", *WAYS, "limit"], rows),
        ]
    )


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each batch size")
    options = parser.parse_args()
    records = Records(options.out / "overhead.jsonl")
    for batch in tqdm(BATCHES, unit="batch"):
        config = {"batch": batch, "threads": 1}
        if not records.has(config):
            records.add(config, measure(batch, options.seconds))
    write_text(options.out / "overhead.md", report(records))


if __name__ == "__main__":
    main()
