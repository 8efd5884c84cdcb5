"""How fast are whole sparse networks, against the best dense runtimes?

Run as ``python -m benchmarks.engine --data DIR``; what is in ``results/engine.jsonl`` is skipped.
Networks are LeNets as DWF trained them on MNIST (`benchmarks.trained`), and those of
`benchmarks.networks`, with random weights of which the smallest are zero; they go through
`inference.compile` as users call it. Every way takes its turn in every round, in one process, from NumPy
to NumPy; a turn is a call that is not timed, and then calls for 2 ms.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import inference
from benchmarks.data import add_data_argument
from benchmarks.dense_runtimes import TORCH_COMPILE, dense_runtimes
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.trained import AS_TRAINED, network
from benchmarks.trained import NETWORKS as TRAINED
from inference.turns import medians_of_bursts

SETS = ("lenet_300_100", "lenet_5", "vgg_16", "resnet_18", "transformer_encoder")
ZEROS: tuple[float | str, ...] = (0.98, 0.95, 0.99, AS_TRAINED, 0.9, 0.0)
# Where two threads are measured, and torch.compile, which takes up to minutes to compile.
ALSO: tuple[float | str, ...] = (0.95, AS_TRAINED)
BATCHES = {"lenet_300_100": (1, 64), "lenet_5": (1, 64)}
OTHERS = (1, 16)
# Sums of thousands of products in float32, in another order, over twenty layers.
TOLERANCE = 1e-4
DENSE = ("torch", TORCH_COMPILE, "onnxruntime", "OpenVINO")
# Network, zeros, batch: least speed-up over onnxruntime on one thread. From the project's goals.
LIMITS = {
    ("lenet_300_100", 0.98, 1): 10.0,
    ("lenet_300_100", 0.98, 64): 12.0,
    **{
        (name, zeros, batch): limit
        for name in ("vgg_16", "resnet_18")
        for zeros, limit in ((0.95, 3.0), (0.99, 6.0))
        for batch in OTHERS
    },
    **{("transformer_encoder", 0.95, batch): 1.0 for batch in OTHERS},
}
# How much slower than torch a network without zeros may be.
MOST_OF_TORCH = 1.1


def configurations() -> list[dict[str, Any]]:
    """List all, so that what is judged comes first."""
    return [
        {"network": name, "zeros": zeros, "batch": batch, "threads": threads}
        for threads, zeros, name in itertools.product((1, 2), ZEROS, SETS)
        for batch in BATCHES.get(name, OTHERS)
        if (zeros != AS_TRAINED or name in TRAINED) and (threads == 1 or zeros in ALSO)
    ]


def measure(config: dict[str, Any], data: Path, seconds: float) -> dict[str, Any]:
    """Time every way to compute one network, in turns.

    Args:
        config: One of `configurations`.
        data: Folder of MNIST.
        seconds: How long to go on.

    Returns:
        Median microseconds of every way, and what the engine did.

    Raises:
        ArithmeticError: If the engine's output is not torch's.
    """
    batch, threads = config["batch"], config["threads"]
    torch.set_num_threads(threads)
    model, shape = network(config["network"], config["zeros"], data)
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nothing to gain")
        compiled = inference.compile(model, torch.from_numpy(x), batch_sizes=(batch,), threads=threads)
    out = compiled(x).copy()
    compiles = config["zeros"] in ALSO and threads == 1
    runtimes = dense_runtimes(model, x, threads=threads, compiled=compiles)
    ways: dict[str, Callable[[], Any]] = {name: partial(call, x) for name, call in runtimes.items()}
    ways["engine"] = partial(compiled, x, out=out)
    expected = np.array(ways["torch"]())
    error = float(np.linalg.norm(compiled(x) - expected) / np.linalg.norm(expected))
    if not error <= TOLERANCE:
        raise ArithmeticError(f"the engine is off by {error:.1e} at {config}")
    result = {name: 1e6 * taken for name, taken in medians_of_bursts(ways, seconds).items()}
    return {**result, "error": error, "native": compiled.plan.choices[batch].native}


def report(records: Records) -> str:
    """Write the page."""
    rows = sorted(records.rows, key=lambda row: _order(row[CONFIG]))
    parts = [
        "# Whole networks in the sparse engine\n",
        "Made by `python -m benchmarks.engine --data DIR` from `engine.jsonl`. " + records.provenance(),
        f"""
From NumPy to NumPy, microseconds, medians over turns in one process; a turn is 2 ms of calls after one
that is not timed, so caches are warm for every way alike. "{AS_TRAINED}": a network that DWF has trained
on MNIST (`benchmarks.trained`). The others have random weights (magnitudes pruned to the share of
zeros), which says nothing of accuracy and little of dead units: trained networks have more of them.
`inference.compile` with the batch size given and `out=`. {TORCH_COMPILE} was measured on one thread, at
some shares of zeros only, since a dense product knows nothing of them.

With two threads the engine shares a batch out by tiles of 16 samples and more, so batch 1 and 16 gain
nothing from the second. Where torch takes 16 ms with two, its threads stall in turns with the other
runtimes'.
""",
    ]
    for threads in (1, 2):
        these = [row for row in rows if row[CONFIG]["threads"] == threads]
        parts += [
            f"## {threads} thread{'s' if threads > 1 else ''}\n",
            table(_header(), map(_cells, these)),
        ]
    return "\n".join(parts)


def _order(config: dict[str, Any]) -> tuple[Any, ...]:
    zeros = config["zeros"]
    return SETS.index(config["network"]), config["batch"], 1.0 if zeros == AS_TRAINED else zeros


def _header() -> list[str]:
    ratios = [f"{name} / engine" for name in ("torch", "onnxruntime", "best dense")]
    return ["network", "zeros", "batch", *DENSE, "engine", *ratios, "goals"]


def _cells(row: dict[str, Any]) -> list[str]:
    config, result = row[CONFIG], row[RESULT]
    engine, gain = result["engine"], result["onnxruntime"] / result["engine"]
    best = min(result[name] for name in DENSE if name in result)
    verdict = ""
    limit = LIMITS.get((config["network"], config["zeros"], config["batch"]))
    if config["threads"] == 1 and limit is not None:
        verdict = f"{limit:g} x onnxruntime: " + ("met" if gain >= limit else "**missed**")
    elif config["zeros"] == 0:
        met = engine <= MOST_OF_TORCH * result["torch"]
        verdict = f"{MOST_OF_TORCH:g} of torch: " + ("met" if met else "**missed**")
    return [
        config["network"],
        str(config["zeros"]),
        str(config["batch"]),
        *(f"{result[name]:.1f}" if name in result else "" for name in (*DENSE, "engine")),
        f"{result['torch'] / engine:.1f}",
        f"{gain:.1f}",
        f"{best / engine:.1f}",
        verdict,
    ]


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each configuration")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. batch=16")
    arguments = parser.parse_args()
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "engine.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.data, arguments.seconds))
    write_text(arguments.out / "engine.md", report(records))


if __name__ == "__main__":
    main()
