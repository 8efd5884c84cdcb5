"""The page, table and figure of `benchmarks.step`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import ACCENT, DENSE, SPARSE, panels
from benchmarks.records import CONFIG, RESULT, Records, table, write_text
from benchmarks.shapes import SETS, elements

COLOURS = {"reference": DENSE, "blocked": ACCENT, "native": SPARSE}
COLUMNS = ("set", "base", "depth", "threads")


class Limit(NamedTuple):
    """A ratio to the fused dense step that must not be passed."""

    set: str
    base: str
    path: str
    most: float
    depth: int = 3


LIMITS = [
    Limit("lenet300", "SGD momentum", "native", 2.0),
    Limit("resnet18", "SGD momentum", "native", 3.0),
    Limit("gpt2-small", "SGD momentum", "native", 3.0),
    Limit("many-small", "SGD momentum", "native", 0.5),
    Limit("resnet18", "Adam", "native", 3.1),
    Limit("gpt2-small", "Adam", "native", 3.1),
    Limit("resnet18", "SGD momentum", "blocked", 5.5),
    Limit("gpt2-small", "SGD momentum", "blocked", 5.5),
    Limit("resnet18", "Adam", "blocked", 5.5),
    Limit("gpt2-small", "Adam", "blocked", 5.5),
]
LEAST_OF_STREAM = 0.9
# Smaller sets live in caches, which no stream of memory measures.
LARGE = 10_000_000


def write_report(records: Records, out: Path) -> None:
    """Write ``step.md``, ``step.csv`` and ``step.png``."""
    if not records.rows:
        return
    write_text(out / "step.csv", _csv(records))
    _figure(records, out / "step.png")
    page = [
        "# Time of an optimizer step\n",
        "Made by `python -m benchmarks.step` from `step.jsonl`. " + records.provenance(),
        f"""
Ratios to `torch.optim`'s fused step of the same parameters without factors, medians over rounds in
which every way takes its turn. "Of stream": bytes that the step must move over its time, against
`x.mul_(c)` on as much memory in the same round. All numbers are in `step.csv`.

![Ratio to the fused dense step](step.png)

## Limits

Depth 3; native also at least {LEAST_OF_STREAM} of the stream, on sets of {LARGE // 10**6} M parameters
and more.
""",
        table(["set", "base", "path", "threads", "limit", "ratio", "of stream", ""], _judged(records)),
    ]
    for threads in (1, 2):
        page += [f"\n## {threads} thread{'s' if threads > 1 else ''}\n", _overview(records, threads)]
    write_text(out / "step.md", "\n".join(page))


def _judged(records: Records) -> list[list[str]]:
    rows = []
    for limit in LIMITS:
        for threads in (1, 2):
            config = {"set": limit.set, "base": limit.base, "depth": limit.depth, "threads": threads}
            result = _find(records, config)
            cells = [limit.set, limit.base, limit.path, str(threads), f"{limit.most:g}"]
            if result is None:
                rows.append([*cells, "", "", "not run"])
                continue
            way = result[limit.path]
            met = way["ratio"] <= limit.most
            if limit.path == "native" and elements(limit.set) >= LARGE:
                met = met and way["of_stream"] >= LEAST_OF_STREAM
            verdict = "met" if met else "**missed**"
            rows.append([*cells, f"{way['ratio']:.2f}", f"{way['of_stream']:.2f}", verdict])
    return rows


def _overview(records: Records, threads: int) -> str:
    rows = []
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        if config["threads"] != threads:
            continue
        ways = [result.get(path) for path in COLOURS]
        ratios = ["" if way is None else f"{way['ratio']:.2f}" for way in ways]
        share = f"{result['native']['of_stream']:.2f}"
        dense = f"{result['dense fused']['ms']:.2f}"
        rows.append([config["set"], config["base"], str(config["depth"]), dense, *ratios, share])
    header = ["set", "base", "depth", "dense fused, ms", *COLOURS, "native, of stream"]
    return table(header, rows)


def _csv(records: Records) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*COLUMNS, "path", "ms", "ratio", "lower quartile", "upper quartile", "of stream", "stream GB/s"]
    )
    for row in records.rows:
        result = row[RESULT]
        for path in ("dense fused", *COLOURS):
            if path in result:
                way = result[path]
                numbers = [way["ms"], way["ratio"], *way["quartiles"], way.get("of_stream", "")]
                cells = [f"{n:.4g}" if n != "" else "" for n in (*numbers, result["bandwidth"])]
                writer.writerow([*(row[CONFIG][key] for key in COLUMNS), path, *cells])
    return text.getvalue()


def _find(records: Records, config: dict[str, Any]) -> dict[str, Any] | None:
    return next((row[RESULT] for row in records.rows if row[CONFIG] == config), None)


def _figure(records: Records, path: Path) -> None:
    figure, axes = panels(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, base in zip(axes, ("SGD momentum", "Adam"), strict=True):
        for offset, (way, colour) in enumerate(COLOURS.items()):
            points = [
                (x + 0.22 * (offset - 1), result[way]["ratio"])
                for x, name in enumerate(SETS)
                if (result := _find(records, {"set": name, "base": base, "depth": 3, "threads": 1}))
            ]
            axis.bar([x for x, _ in points], [y for _, y in points], width=0.2, color=colour, label=way)
        axis.axhline(1, color=DENSE, linewidth=1)
        axis.set_title(f"{base}, D = 3, 1 thread")
        axis.set_xticks(range(len(SETS)), SETS, rotation=20)
        axis.set_yscale("log")
    axes[0].set_ylabel("time over fused dense step")
    axes[0].legend()
    figure.savefig(path, dpi=150)
