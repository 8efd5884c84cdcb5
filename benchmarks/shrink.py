"""How much faster is a network without its dead filters, as a plain dense model?

Run as ``python -m benchmarks.shrink``; what is in ``results/shrink.jsonl`` is skipped. In each layer of
a network of `benchmarks.networks` but the last, a share of the filters or neurons is zeroed at random;
`inference.shrink` takes them out. Both models take turns in torch and in onnxruntime, in one process,
on one thread, from NumPy to NumPy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import inference
from benchmarks.cells import run_cells
from benchmarks.dense_runtimes import onnx_runtime, torch_eager
from benchmarks.networks import NETWORKS
from benchmarks.records import CONFIG, RESULT, Records, table, write_text
from inference.turns import medians_of_bursts

ALIGNED = ", aligned"
SETS = ("lenet_5", "vgg_16", "resnet_18", "resnet_18" + ALIGNED)
KILLED = (0.5, 0.75, 0.9)
BATCHES = (1, 16)
RUNTIMES = ("torch", "onnxruntime")
# Sums of thousands of products in float32, in another order, over many layers.
TOLERANCE = 1e-5


def configurations() -> list[dict[str, Any]]:
    """List what is measured."""
    return [
        {"network": network, "killed": killed, "batch": batch}
        for network, batch, killed in itertools.product(SETS, BATCHES, KILLED)
    ]


def kill_filters_(model: nn.Module, share: float, aligned: bool = False) -> nn.Module:
    """Zero filters and neurons at random, the same share in each layer but the last, in place.

    Args:
        model: With Linear and Conv2d modules.
        share: Of the outputs of a layer.
        aligned: Whether layers of one width lose the same ones. In a residual network then all terms of
            a sum do.

    Returns:
        The model.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for k, layer in enumerate(layers[:-1]):
            count = len(layer.weight)
            generator = torch.Generator().manual_seed(count if aligned else k)
            dead = torch.randperm(count, generator=generator)[: round(share * count)]
            layer.weight[dead] = 0
    return model


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time a network and what is left of it.

    Args:
        config: One of `configurations`.
        seconds: How long to go on.

    Returns:
        Median milliseconds by runtime and model, parameters and FLOPs before and after, the dead
        outputs that stayed, and the largest difference of outputs as a share of the largest output.

    Raises:
        ArithmeticError: If outputs differ.
    """
    torch.set_num_threads(1)
    name, aligned = config["network"].removesuffix(ALIGNED), config["network"].endswith(ALIGNED)
    network = NETWORKS[name]
    model = kill_filters_(network.build(0), config["killed"], aligned)
    x = np.random.default_rng(0).standard_normal((config["batch"], *network.shape), np.float32)
    small, report = inference.shrink_with_report(model, torch.from_numpy(x))
    ways: dict[str, Callable[[], Any]] = {}
    for which, each in (("dense", model), ("shrunk", small)):
        ways[f"torch {which}"] = functools.partial(torch_eager(each), x)
        ways[f"onnxruntime {which}"] = functools.partial(onnx_runtime(each, x), x)
    expected = np.array(ways["torch dense"]())
    errors = {
        way: float(np.abs(np.array(run()) - expected).max() / np.abs(expected).max())
        for way, run in ways.items()
    }
    if not max(errors.values()) <= TOLERANCE:
        raise ArithmeticError(f"outputs are off by {errors} at {config}")
    times = medians_of_bursts(ways, seconds)
    return {
        "ms": {way: 1e3 * taken for way, taken in times.items()},
        "parameters": report.parameters,
        "flops": report.flops,
        "stuck": sum(each.count for each in report.stuck if each.what == "outputs"),
        "error": max(errors.values()),
    }


def write_report(records: Records, out: Path) -> None:
    """Write ``shrink.md``."""
    rows, order = [], configurations()
    for record in sorted(records.rows, key=lambda row: order.index(row[CONFIG])):
        config, result = record[CONFIG], record[RESULT]
        times = result["ms"]
        pairs = [(times[f"{runtime} dense"], times[f"{runtime} shrunk"]) for runtime in RUNTIMES]
        rows.append(
            [
                config["network"],
                f"{config['killed']:.0%}",
                str(config["batch"]),
                *(f"{before / after:.1f}x" for before, after in (result["parameters"], result["flops"])),
                *itertools.chain.from_iterable(
                    (f"{dense:.3f}", f"{shrunk:.3f}", f"{dense / shrunk:.2f}x")
                    for dense, shrunk in pairs
                ),
                str(result["stuck"]),
                f"{result['error']:.1e}",
            ]
        )
    header = ["network", "filters killed", "batch", "parameters", "FLOPs"]
    for runtime in RUNTIMES:
        header += [f"{runtime}, ms", "shrunk, ms", "faster"]
    page = [
        "# Time without dead filters\n",
        "Made by `python -m benchmarks.shrink` from `shrink.jsonl`. " + records.provenance(),
        """
Networks with random weights, of which in each layer but the last a share of the filters and neurons is
zero, chosen at random: the times say what a given share is worth, not what accuracy it costs. What
`inference.shrink` makes of them is dense, and runs in torch and onnxruntime like the network itself; all
in turns in one process, one thread, float32, from NumPy to NumPy, medians over turns of calls. Batch
norms have random shifts, so that dead filters are constants that are not zero: one channel stays in
front of most padded convolutions to carry them. In ResNet-18 a channel of a sum goes only if it is dead
in all terms; "aligned" kills the same channels in all layers of one width. "Left" counts dead filters
that could not go, outputs of the network included; the error is the largest difference of outputs from
the network's in torch, as a share of the largest output.

The row of ResNet-18 at 90 % and batch 1 was measured twice: at first the network itself took 78.8 ms in
torch, two to three times what it took in the rows beside it, and that row was replaced.
""",
        table([*header, "left", "largest error"], rows),
    ]
    write_text(out / "shrink.md", "\n".join(page))


def main() -> None:
    """Run what is missing and write the page."""
    run_cells("shrink", __doc__, configurations(), measure, write_report)


if __name__ == "__main__":
    main()
