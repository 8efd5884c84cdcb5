"""How fast are whole sparse networks, against the best dense runtimes?

Run as ``python -m benchmarks.engine``; what is in ``results/engine.jsonl`` is skipped. Networks are
those of `benchmarks.networks`, with random weights of which the smallest are zero, and go through
`inference.compile` as users call it. Every way takes its turn in every round, in one process, on one
thread, from NumPy to NumPy; a turn is a call that is not timed, and then calls for 2 ms.
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
from benchmarks.dense_runtimes import dense_runtimes
from benchmarks.networks import NETWORKS, prune_
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from inference.turns import medians_of_bursts

SETS = ("lenet_300_100", "lenet_5", "vgg_16", "resnet_18", "transformer_encoder")
ZEROS = (0.98, 0.95, 0.99, 0.9, 0.0)
BATCHES = {"lenet_300_100": (1, 64), "lenet_5": (1, 64)}
OTHERS = (1, 16)
# Sums of thousands of products in float32, in another order, over twenty layers.
TOLERANCE = 1e-4
DENSE = ("torch", "onnxruntime", "OpenVINO")
# Network, zeros, batch: least speed-up over onnxruntime. From the project's goals.
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
        {"network": name, "zeros": zeros, "batch": batch}
        for zeros, name in itertools.product(ZEROS, SETS)
        for batch in BATCHES.get(name, OTHERS)
    ]


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time every way to compute one network, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on.

    Returns:
        Median microseconds of every way, and what the engine did.

    Raises:
        ArithmeticError: If the engine's output is not torch's.
    """
    torch.set_num_threads(1)
    build, shape = NETWORKS[config["network"]]
    model = prune_(build(0), config["zeros"])
    batch = config["batch"]
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nothing to gain")
        compiled = inference.compile(model, torch.from_numpy(x), batch_sizes=(batch,))
    out = compiled(x).copy()
    ways: dict[str, Callable[[], Any]] = {
        name: partial(call, x) for name, call in dense_runtimes(model, x).items()
    }
    ways["engine"] = partial(compiled, x, out=out)
    expected = np.array(ways["torch"]())
    error = float(np.linalg.norm(compiled(x) - expected) / np.linalg.norm(expected))
    if not error <= TOLERANCE:
        raise ArithmeticError(f"the engine is off by {error:.1e} at {config}")
    result = {name: 1e6 * taken for name, taken in medians_of_bursts(ways, seconds).items()}
    return {**result, "error": error, "native": compiled.plan.choices[batch].native}


def report(records: Records) -> str:
    """Write the page."""
    rows = []
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        engine = result["engine"]
        limit = LIMITS.get((config["network"], config["zeros"], config["batch"]))
        gain = result["onnxruntime"] / engine
        verdict = ""
        if limit is not None:
            verdict = f"{limit:g}: " + ("met" if gain >= limit else "**missed**")
        elif config["zeros"] == 0:
            met = engine <= MOST_OF_TORCH * result["torch"]
            verdict = f"{MOST_OF_TORCH:g} of torch: " + ("met" if met else "**missed**")
        best = min(result[name] for name in DENSE)
        rows.append(
            [
                config["network"],
                f"{config['zeros']:g}",
                str(config["batch"]),
                *(f"{result[name]:.1f}" for name in (*DENSE, "engine")),
                f"{result['torch'] / engine:.1f}",
                f"{gain:.1f}",
                f"{best / engine:.1f}",
                verdict,
            ]
        )
    header = [
        "network",
        "zeros",
        "batch",
        *(f"{name}, us" for name in DENSE),
        "engine, us",
        "torch / engine",
        "onnxruntime / engine",
        "best dense / engine",
        "onnxruntime / engine at least",
    ]
    rows.sort(key=lambda cells: (SETS.index(cells[0]), int(cells[2]), float(cells[1])))
    return "\n".join(
        [
            "# Whole networks in the sparse engine\n",
            "Made by `python -m benchmarks.engine` from `engine.jsonl`. " + records.provenance(),
            """
One thread, from NumPy to NumPy, medians over turns in one process; a turn is 2 ms of calls after one
that is not timed, so caches are warm for every way alike. Weights are random (magnitudes pruned to the
share of zeros), which says nothing of accuracy and little of dead units: trained networks have more of
them. `inference.compile` with the batch size given and `out=`.
""",
            table(header, rows),
            "",
        ]
    )


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each configuration")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE", help="e.g. batch=16")
    arguments = parser.parse_args()
    wanted = dict(each.split("=", 1) for each in arguments.only)
    records = Records(arguments.out / "engine.jsonl")
    for config in tqdm(configurations(), unit="config"):
        if records.has(config) or any(str(config[key]) != value for key, value in wanted.items()):
            continue
        records.add(config, measure(config, arguments.seconds))
    write_text(arguments.out / "engine.md", report(records))


if __name__ == "__main__":
    main()
