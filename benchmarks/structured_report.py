"""The page of `benchmarks.structured`."""

from __future__ import annotations

from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table
from benchmarks.structured_networks import NETWORKS

INTRODUCTION = (
    "Weights of a group share gates (`structure=`); the penalty takes whole groups to zero, `sparsify` "
    "by a tolerance on held-out training images makes them exactly zero, and `inference.shrink` "
    "makes a plain dense network of what is left. Depth 1 is the dense network, its groups pruned by "
    "their norm with the same tolerance and without training on.\n\n"
    "SGD, lr {lr} with momentum {momentum}, batch {batch_size}, cosine schedule, one seed. *Test* is "
    "the accuracy after training, *test after* that of the smaller network, *output difference* the "
    "largest between the two on up to 1,000 test images in float32. FLOPs are of one image, by "
    "`torch.utils.flop_counter`; for LeNet-300-100, of a network that is given the living pixels only.\n"
)


def report(records: Records, timings: Records) -> str:
    """Write the page in Markdown.

    Args:
        records: Runs.
        timings: Milliseconds by network, widths and batch.
    """
    lines = ["# Smaller networks\n"]
    if not records.rows:
        return "\n".join([*lines, "No runs yet.\n"])
    lines.append(INTRODUCTION.format(**records.rows[0][CONFIG]))
    for name, network in NETWORKS.items():
        if runs := [row for row in records.rows if row[CONFIG]["network"] == name]:
            full = "-".join(map(str, network.widths))
            title = f"## {name} on {network.data}: {network.what}\n"
            lines += [title, f"Of {full}.\n", _runs(runs)]
    if timings.rows:
        lines += [
            "## Milliseconds\n",
            "The full network and the smaller one in turns, median, one thread.\n",
            _timings(timings),
        ]
    made = "Made by `python -m benchmarks.structured --data DIR`, and then with `--time`."
    return "\n".join([*lines, f"{made} {records.provenance()}"]) + "\n"


def _runs(rows: list[dict[str, Any]]) -> str:
    header = (
        *("D", "penalty", "epochs", "loss", "test", "tolerance", "left"),
        *("parameters", "FLOPs", "fewer", "test after", "output difference"),
    )
    order = sorted(rows, key=lambda row: (row[CONFIG]["depth"], row[CONFIG]["penalty"]))
    return table(
        header,
        [_cells(row[CONFIG], row[RESULT], one) for row in order for one in row[RESULT]["collapsed"]],
    )


def _cells(config: dict[str, Any], result: dict[str, Any], one: dict[str, Any]) -> tuple[str, ...]:
    before, after = one["flops"]
    return (
        str(config["depth"]),
        f"{config['penalty']:g}",
        str(config["epochs"]),
        f"{result['losses'][-1]:.3f}",
        f"{result['test']:.2%}",
        f"{one['tolerance']:.1%}",
        "-".join(map(str, one["widths"])),
        f"{one['parameters'][1]:,}",
        f"{after:,}",
        f"{before / after:.1f}x" if after else "constant",
        f"{one['test']:.2%}",
        f"{one['difference']:.1e}",
    )


def _timings(timings: Records) -> str:
    header = (
        *("network", "left", "batch", "torch, full", "torch, small", "faster"),
        *("onnxruntime, full", "onnxruntime, small", "faster"),
    )
    rows = []
    for row in timings.rows:
        config, result = row[CONFIG], row[RESULT]
        cells = [config["network"], "-".join(map(str, config["widths"])), str(config["batch"])]
        for runtime in ("torch", "onnxruntime"):
            full, small = result[f"full {runtime}"], result[f"small {runtime}"]
            cells += [f"{full:.3f}", f"{small:.3f}", f"{full / small:.1f}x"]
        rows.append(cells)
    return table(header, rows)
