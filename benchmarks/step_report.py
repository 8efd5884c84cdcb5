"""The page, table and figure of `benchmarks.step`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import ACCENT, SPARSE, panels, write_figure
from benchmarks.figures import DENSE as GREY
from benchmarks.records import CONFIG, RESULT, Records, table, write_text
from benchmarks.shapes import SETS, elements
from benchmarks.step_ways import COMPILED, DENSE, PARAMETRIZE, PATHS, dense_moved, moved

COLUMNS = ("set", "base", "depth", "storage", "threads")
MET, MISSED, NOT_RUN = "met", "**missed**", "not run"
# Smaller sets live in caches, which no stream of memory measures.
LARGE = 10_000_000
LEAST_OF_STREAM = 0.9
BARS = {
    (PARAMETRIZE, "full"): "#b8bec7",
    ("reference", "full"): GREY,
    ("blocked", "full"): ACCENT,
    ("native", "full"): SPARSE,
    ("native", "tied"): "#009e73",
    ("native", "ephemeral"): "#cc79a7",
}


class Limit(NamedTuple):
    """A ratio to the fused dense step that must not be passed at depth 3."""

    set: str
    base: str
    storage: str
    path: str
    most: float


MOMENTUM = "SGD momentum"
LIMITS = [
    Limit("lenet300", MOMENTUM, "full", "native", 2.0),
    Limit("many-small", MOMENTUM, "full", "native", 0.5),
    *(Limit(name, MOMENTUM, "full", "native", 3.0) for name in ("resnet18", "gpt2-small")),
    *(Limit(name, "Adam", "full", "native", 3.1) for name in ("resnet18", "gpt2-small")),
    *(Limit(name, MOMENTUM, "tied", "native", 1.5) for name in ("resnet18", "vgg19", "gpt2-small")),
    *(Limit(name, MOMENTUM, "ephemeral", "native", 1.2) for name in ("resnet18", "vgg19", "gpt2-small")),
    *(
        Limit(name, base, "full", "blocked", 5.5)
        for name in ("resnet18", "vgg19", "gpt2-small")
        for base in (MOMENTUM, "Adam")
    ),
]
# Bytes per parameter beyond weight and gradient, by storage, at the peak of a native step.
MOST_BYTES = {"full": 25, "tied": 9, "ephemeral": 5}


def write_report(records: Records, peaks: Records, out: Path) -> None:
    """Write ``step.md``, ``step.csv`` and ``step.png``."""
    if not records.rows:
        return
    write_text(out / "step.csv", _csv(records))
    _figure(records, out / "step.png")
    compiled = ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in COMPILED.items())
    gpu = "" if (out / "step_gpu.md").exists() else ", not run yet"
    page = [
        "# Time and memory of an optimizer step\n",
        "Made by `python -m benchmarks.step` from `step.jsonl` and `step_memory.jsonl`. "
        + records.provenance(),
        f"""
Ratios to `torch.optim`'s fused step of the same parameters without factors, medians over rounds in
which every way takes its turn. "Floor": bytes that the step must move over those of the dense step.
"Of stream": these bytes over its time, against `x.mul_(c)` on as much memory in the same round.
"parametrize": what `torch.nn.utils.parametrize` does in an iteration for what our step does, which is
the product of the factors, the backward pass through it and the fused step of the factors; the model's
own forward and backward pass are in neither. "compiled" takes half a minute to compile, and was
measured for {compiled} only. Depth 1 is the base's own step with the penalty added to the gradient, and
torch's steps on the CPU are loops that are not fused, unless `fused=True` is given. What would need more
memory than was allowed (`--memory`, 6 GB) is left out; gpt2-small takes "reference" in two cases only.
An asterisk: dense with two threads took more than twice its time with one, so its threads stalled, and
ratios to it say little. All numbers are in `step.csv`; limits of whole iterations are judged on
[their own page](iteration.md). On a GPU: `python -m benchmarks.step_gpu`{gpu}.

![Ratio to the fused dense step](step.png)

## Limits of time

Depth 3; native, full storage, also at least {LEAST_OF_STREAM} of the stream on sets of
{LARGE // 10**6} M parameters and more.
""",
        table(
            ["set", "base", "storage", "path", "threads", "limit", "floor", "ratio", "of stream", ""],
            judge_times(records),
        ),
        """
## Limits of memory

Bytes per parameter beyond weights and gradients, at the peak: by torch's allocator, and by the process's
resident memory, with malloc told to give freed memory back at once. "Start" is from before the optimizer
is made until it has taken two steps, "steady" is a later step, to which the limit applies.
""",
        table(
            ["set", "base", "storage", "path", "limit", "steady", "resident", "start", "resident", ""],
            judge_memory(peaks),
        ),
    ]
    for threads in (1, 2):
        page += [f"\n## {threads} thread{'s' if threads > 1 else ''}\n", _overview(records, threads)]
    write_text(out / "step.md", "\n".join(page))


def judge_times(records: Records) -> list[list[str]]:
    """Return a row for each limit and number of threads; the last cell says whether it was met."""
    rows = []
    for limit in LIMITS:
        for threads in (1, 2):
            config = _config(limit.set, limit.base, limit.storage, threads)
            cells = [limit.set, limit.base, limit.storage, limit.path, str(threads), f"{limit.most:g}"]
            cells.append(f"{moved(config) / dense_moved(config):.2f}")
            way = (_find(records, config) or {}).get(limit.path)
            if way is None:
                rows.append([*cells, "", "", NOT_RUN])
                continue
            met = way["ratio"] <= limit.most
            if (limit.path, limit.storage) == ("native", "full") and elements(limit.set) >= LARGE:
                met = met and way["of_stream"] >= LEAST_OF_STREAM
            rows.append(
                [*cells, f"{way['ratio']:.2f}", f"{way['of_stream']:.2f}", MET if met else MISSED]
            )
    return rows


def judge_memory(peaks: Records) -> list[list[str]]:
    """Return a row for each measured peak."""
    rows = []
    for row in peaks.rows:
        config, result = row[CONFIG], row[RESULT]
        steady, start = result["steady"], result["start"]
        limit = MOST_BYTES[config["storage"]] if config["path"] == "native" else None
        verdict = ""
        if limit is not None:
            verdict = MET if max(steady.values()) <= limit else MISSED
        numbers = [steady["allocator"], steady["resident"], start["allocator"], start["resident"]]
        names = [config[key] for key in ("set", "base", "storage", "path")]
        rows.append(
            [*names, "" if limit is None else str(limit), *(f"{n:.1f}" for n in numbers), verdict]
        )
    return rows


def _overview(records: Records, threads: int) -> str:
    rows = []
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        if config["threads"] != threads:
            continue
        ways = [result.get(path) for path in PATHS]
        ratios = ["" if way is None else f"{way['ratio']:.2f}" for way in ways]
        names = [str(config[key]) for key in ("set", "base", "depth", "storage")]
        floor = f"{moved(config) / dense_moved(config):.2f}"
        share = f"{result['native']['of_stream']:.2f}"
        dense = f"{result[DENSE]['ms']:.2f}" + (r"\*" if _stalled(records, config) else "")
        rows.append([*names, dense, floor, *ratios, share])
    header = ["set", "base", "depth", "storage", "dense, ms", "floor", *PATHS, "native, of stream"]
    return table(header, rows)


def _stalled(records: Records, config: dict[str, Any]) -> bool:
    """Say whether a second thread made the dense step take twice the time."""
    one, result = (_find(records, {**config, "threads": n}) for n in (1, config["threads"]))
    return one is not None and result is not None and result[DENSE]["ms"] > 2 * one[DENSE]["ms"]


def _csv(records: Records) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ["path", "ms", "ratio", "lower quartile", "upper quartile", "of stream", "stream GB/s"]
    writer.writerow([*COLUMNS, *names])
    for row in records.rows:
        result = row[RESULT]
        for path in (DENSE, *PATHS):
            if path in result:
                way = result[path]
                numbers = [way["ms"], way["ratio"], *way["quartiles"], way.get("of_stream", "")]
                cells = [f"{n:.4g}" if n != "" else "" for n in (*numbers, result["bandwidth"])]
                writer.writerow([*(row[CONFIG][key] for key in COLUMNS), path, *cells])
    return text.getvalue()


def _config(name: str, base: str, storage: str, threads: int) -> dict[str, Any]:
    return {"depth": 3, "set": name, "base": base, "storage": storage, "threads": threads}


def _find(records: Records, config: dict[str, Any]) -> dict[str, Any] | None:
    return next((row[RESULT] for row in records.rows if row[CONFIG] == config), None)


def _figure(records: Records, path: Path) -> None:
    figure, axes = panels(1, 2, figsize=(10, 3.8), sharey=True)
    for axis, base in zip(axes, (MOMENTUM, "Adam"), strict=True):
        for place, ((way, storage), colour) in enumerate(BARS.items()):
            points = [
                (x + 0.14 * (place - (len(BARS) - 1) / 2), result[way]["ratio"])
                for x, name in enumerate(SETS)
                if way in (result := _find(records, _config(name, base, storage, 1)) or {})
            ]
            label = way if storage == "full" else f"{way}, {storage}"
            axis.bar([x for x, _ in points], [y for _, y in points], 0.13, color=colour, label=label)
        axis.axhline(1, color=GREY, linewidth=1)
        axis.set_title(f"{base}, D = 3, 1 thread")
        axis.set_xticks(range(len(SETS)), SETS, rotation=20)
        axis.set_yscale("log")
    axes[0].set_ylabel("time over fused dense step")
    axes[0].set_ylim(top=200)  # room above the bars
    axes[0].legend(fontsize=7.5, ncols=3, loc="upper left")
    write_figure(path, figure)
