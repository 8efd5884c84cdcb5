"""The page of `benchmarks.structured`."""

from __future__ import annotations

from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table

COMMAND = "`python -m benchmarks.structured --data DIR`, timings with `--time`"


def report(records: Records, timings: Records) -> str:
    """Write the page in Markdown.

    Args:
        records: Runs.
        timings: Milliseconds by widths and batch.
    """
    first = records.rows[0][CONFIG] if records.rows else {}
    lines = [
        "# Smaller networks: LeNet-5 on MNIST\n",
        "Filters of both convolutions and neurons of the hidden layer share gates (`structure=`); the "
        "penalty takes whole ones to zero, `sparsify` by a tolerance on 5,000 validation images makes "
        "them exactly zero, and `inference.shrink` makes a plain dense network of what is left. Depth 1 "
        "is the dense network, pruned by the norm of its filters and neurons in one shot.\n",
        f"{first.get('epochs')} epochs of 55,000 images, batch {first.get('batch_size')}, SGD lr "
        f"{first.get('lr')} with momentum {first.get('momentum')}, cosine; the factor-space scale is 1. "
        "The last test accuracy is of the smaller network; FLOPs are of one image, by "
        "`torch.utils.flop_counter`.\n",
        _runs(records),
    ]
    if timings.rows:
        lines += ["## Milliseconds\n", _timings(timings)]
    made = f"Made by {COMMAND}. {records.provenance()}" if records.rows else "No runs yet."
    return "\n".join([*lines, made]) + "\n"


def _runs(records: Records) -> str:
    header = (
        *("D", "penalty", "losses", "test", "tolerance", "filters, neurons"),
        *("parameters", "FLOPs", "fewer", "test after", "output difference"),
    )
    rows = []
    order = sorted(records.rows, key=lambda row: (row[CONFIG]["depth"], row[CONFIG]["penalty"]))
    for row in order:
        config, result = row[CONFIG], row[RESULT]
        rows += [_cells(config, result, one) for one in result["collapsed"]]
    return table(header, rows)


def _cells(config: dict[str, Any], result: dict[str, Any], one: dict[str, Any]) -> tuple[str, ...]:
    before, after = one["flops"]
    return (
        str(config["depth"]),
        f"{config['penalty']:g}",
        " ".join(f"{loss:.3f}" for loss in result["losses"]),
        f"{result['test']:.2%}",
        f"{one['tolerance']:.1%}",
        "-".join(map(str, one["widths"])),
        f"{one['parameters'][1]:,}",
        f"{after:,}",
        f"{before / after:.1f}x",
        f"{one['test']:.2%}",
        f"{one['difference']:.1e}",
    )


def _timings(timings: Records) -> str:
    header = (
        *("filters, neurons", "batch", "torch, full", "torch, small", "faster"),
        *("onnxruntime, full", "onnxruntime, small", "faster"),
    )
    rows = []
    for row in timings.rows:
        config, result = row[CONFIG], row[RESULT]
        cells = ["-".join(map(str, config["widths"])), str(config["batch"])]
        for runtime in ("torch", "onnxruntime"):
            full, small = result[f"full {runtime}"], result[f"small {runtime}"]
            cells += [f"{full:.3f}", f"{small:.3f}", f"{full / small:.1f}x"]
        rows.append(cells)
    return table(header, rows)
