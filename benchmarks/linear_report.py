"""The page and table of `benchmarks.linear`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.csr_runtimes import BACKENDS
from benchmarks.dense_runtimes import TORCH_COMPILE
from benchmarks.figures import write_figure
from benchmarks.judged import AVX512, BREAK_EVEN, ROOFLINE_TEXT, Judged, Limit, met, ratio
from benchmarks.judged_figure import figure
from benchmarks.records import Records, table, write_text

OWN_LAYOUT = "sparse, own layout"
LENET = "LeNet-300-100"
JUDGED = ("300x784", "100x300", "512x512", "1024x1024", "4096x1024", "4096x4096")
LIMITS = [
    *(Limit(64, zeros, least) for zeros, least in ((0.9, 4.5), (0.95, 7), (0.98, 11), (0.99, 17))),
    *(Limit(64, z, least, OWN_LAYOUT) for z, least in ((0.9, 6), (0.95, 10), (0.98, 22), (0.99, 42))),
    Limit(1, 0.9, 4.6),
    Limit(1, 0.99, 13),
]
OTHERS = {"engine, AVX-512": AVX512, TORCH_COMPILE: TORCH_COMPILE, **{name: name for name in BACKENDS}}
LENET_ZEROS = 0.98
LENET_LIMITS = {1: 10, 64: 12}


def write_report(records: Records, out: Path) -> None:
    """Write ``linear.md`` and ``linear.csv``."""
    if not records.rows:
        return
    judged = Judged(records, JUDGED)
    write_text(out / "linear.csv", judged.csv())
    header = ["batch", "zeros", "called with", "limit", "reached", "AVX2", ""]
    page = [
        "# Time of sparse linear layers\n",
        "Made by `python -m benchmarks.linear` from `linear.jsonl`. " + records.provenance(),
        """
Speed-up over the fastest of torch, onnxruntime and OpenVINO in float32, at .95 zeros and batch 1 and 64
also of torch.compile (a dense product knows nothing of zeros), one thread, called from Python with rows
of samples in and out, or where said in the kernels' own layout, features by 64 samples. Medians over
rounds in which every way takes its turn. All times are in `linear.csv`.

## Limits

Geometric means over """
        + ", ".join(JUDGED)
        + "; AVX-512.\n",
        table(header, [_row(judged, limit) for limit in LIMITS]),
        f"\n{LENET} at {LENET_ZEROS} zeros, one call, against onnxruntime:\n",
        table(["batch", "onnxruntime, us", "ours, us", "limit", "reached", ""], _lenet(judged)),
        f"""
Break-even, where the sparse kernel is as fast as the fastest dense runtime (by geometric mean, between
the measured shares of zeros): {judged.break_even(64)} at batch 64, {judged.break_even(1)} at
batch 1; at or below {BREAK_EVEN} was asked for.

![speed-up against zeros](linear.png)
""",
    ]
    page += ["## Other libraries\n", judged.others(OTHERS, (1, 64)), ROOFLINE_TEXT]
    page += [judged.of_roofline(AVX512), ""]
    write_figure(out / "linear.png", figure(judged, (1, 64), list(BACKENDS)))
    for batch in judged.batches():
        page += [
            f"## Batch {batch}\n",
            "Sparse kernel; AVX-512, with AVX2 in brackets.\n",
            judged.overview(batch, "sparse", (*JUDGED, LENET)),
            "\nDense kernel of the engine, for layers where the sparse one loses.\n",
            judged.overview(batch, "dense", (*JUDGED, LENET)),
            "",
        ]
    write_text(out / "linear.md", "\n".join(page))


def _row(judged: Judged, limit: Limit) -> list[str]:
    layout = "rows" if limit.way == AVX512 else "own layout"
    return [str(limit.batch), f"{limit.zeros:g}", layout, *judged.verdict(limit)]


def _lenet(judged: Judged) -> list[list[str]]:
    rows = []
    for batch, least in LENET_LIMITS.items():
        result = judged.find(LENET, batch, LENET_ZEROS)
        if result is None:
            rows.append([str(batch), "", "", f"{least:g}", "", "not run"])
            continue
        reached = result["onnxruntime"] / result[AVX512]
        times = [f"{result[way]:.1f}" for way in ("onnxruntime", AVX512)]
        rows.append([str(batch), *times, f"{least:g}", ratio(reached), met(reached, least)])
    return rows
