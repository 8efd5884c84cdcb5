"""The page and table of `benchmarks.conv`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import write_figure
from benchmarks.judged import AVX512, BREAK_EVEN, DENSE, ROOFLINE_TEXT, Judged, Limit
from benchmarks.judged_figure import figure
from benchmarks.records import CONFIG, Records, table, write_text

# The layers whose geometric mean the limits are for.
JUDGED = ("64x64x3x3@32", "128x128x3x3@16", "256x256x3x3@8", "512x512x3x3@4")
LIMITS = [
    Limit(16, 0.9, 2.7),
    Limit(16, 0.95, 5.0),
    Limit(16, 0.98, 9.5),
    Limit(16, 0.99, 14.0),
    Limit(1, 0.9, 2.3),
]
OTHERS = {"engine, AVX-512": AVX512, **{name: name for name in DENSE}}


def write_report(records: Records, out: Path) -> None:
    """Write ``conv.md`` and ``conv.csv``."""
    if not records.rows:
        return
    judged = Judged(records, JUDGED)
    write_text(out / "conv.csv", judged.csv())
    limits = [[str(each.batch), f"{each.zeros:g}", *judged.verdict(each)] for each in LIMITS]
    page = [
        "# Time of sparse convolutions\n",
        "Made by `python -m benchmarks.conv` from `conv.jsonl`. " + records.provenance(),
        """
Speed-up over the fastest of torch, onnxruntime and OpenVINO in float32, at .95 zeros also of
torch.compile (a dense product knows nothing of zeros), one thread, called from Python with NCHW in and
out. Medians over rounds in which every way takes its turn: a call that is not timed, then calls for some
milliseconds. All times are in `conv.csv`.

## Limits

Geometric means over """
        + ", ".join(JUDGED)
        + "; AVX-512.\n",
        table(["batch", "zeros", "limit", "reached", "AVX2", ""], limits),
        f"""
Break-even, where the sparse kernel is as fast as the fastest dense runtime (by geometric mean, between
the measured shares of zeros): {judged.break_even(16)} at batch 16, {judged.break_even(1)} at
batch 1; at or below {BREAK_EVEN} was asked for.

![speed-up against zeros](conv.png)
""",
    ]
    page += ["## Dense runtimes\n", judged.others(OTHERS, (1, 16)), ROOFLINE_TEXT]
    page += [judged.of_roofline(AVX512), ""]
    write_figure(out / "conv.png", figure(judged, (1, 16)))
    layers = list(dict.fromkeys(row[CONFIG]["layer"] for row in records.rows))
    for batch in judged.batches():
        page += [
            f"## Batch {batch}\n",
            "Sparse kernel; AVX-512, with AVX2 in brackets.\n",
            judged.overview(batch, "sparse", layers),
            "\nDense kernel of the engine, for layers where the sparse one loses.\n",
            judged.overview(batch, "dense", layers),
            "",
        ]
    write_text(out / "conv.md", "\n".join(page))
