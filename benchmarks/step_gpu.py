"""How long does a step take on a GPU, against torch's fused dense step and the device's own copies?

Run as ``python -m benchmarks.step_gpu``; what is in ``results/step_gpu.jsonl`` is skipped, so pieces of
a few minutes will do. ``--device cpu`` shows that it runs, and no more. As in `benchmarks.step` all ways
take turns in one process; a turn ends when the device has done its work.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.shapes import elements
from benchmarks.step_ways import (
    BASES,
    DENSE,
    FLOAT,
    LR,
    Config,
    Way,
    dense_moved,
    make_optimizer,
    make_parameters,
    moved,
    streamed,
    timed,
)
from benchmarks.turns import median_and_quartiles, ratios, take_turns

COPY = "copy"
PATHS = ("reference", "blocked", "compiled")
SETS = ("resnet18", "gpt2-small", "many-small", "lenet300")
DEPTHS = (3, 2, 4)


def configurations(device: str) -> list[Config]:
    """List what is measured on a device, the usual depth first."""
    return [
        {"device": device, "depth": depth, "set": name, "base": base, "storage": "full"}
        for depth, name, base in itertools.product(DEPTHS, SETS, ("SGD momentum", "Adam"))
    ]


def name_of(device: torch.device) -> str:
    """Return what a device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measure(
    config: Config, device: torch.device, seconds: float, paths: Sequence[str] = PATHS
) -> dict[str, Any]:
    """Time the dense step, a copy and every path in turns, and count their kernels.

    Args:
        config: One of `configurations`.
        device: Where the parameters lie.
        seconds: How long to go on; at least three rounds.
        paths: Backends.

    Returns:
        For every way the median milliseconds, the median ratio to the dense step with quartiles, the
        kernels of a step, and the share of the copy's bandwidth; the copy's GB/s.
    """
    steps = _steps(config, device, paths)
    floats = streamed(config)
    source, target = torch.ones(floats, device=device), torch.empty(floats, device=device)
    steps[COPY] = lambda: target.copy_(source)
    for step in steps.values():  # makes states, and compiles
        step()
        step()
    ways = {name: _way(step, device) for name, step in steps.items()}
    times = take_turns(ways, DENSE, seconds)
    work = moved(config) * elements(config["set"]) / (2 * FLOAT * floats)
    result: dict[str, Any] = {"rounds": len(times[DENSE])}
    for name in (DENSE, *paths):
        ratio, quartiles = median_and_quartiles(ratios(times, name, DENSE))
        result[name] = {
            "ms": 1e3 * statistics.median(times[name].values()),
            "ratio": ratio,
            "quartiles": list(quartiles),
            "kernels": _kernels(steps[name], device),
        }
    for name in paths:
        result[name]["of_copy"] = work * statistics.median(ratios(times, COPY, name))
    result["bandwidth"] = 2 * FLOAT * floats / statistics.median(times[COPY].values()) / 1e9
    return result


def _steps(config: Config, device: torch.device, paths: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """Build the dense step, and those of the paths over one set of factors."""
    base, options, _ = BASES[config["base"]]
    dense = base(_parameters(config, device), lr=LR, fused=True, **options)
    ours = make_optimizer(config, _parameters(config, device))

    def by(path: str) -> Callable[[], None]:
        def step() -> None:
            ours.backend = path
            ours.step()

        return step

    return {DENSE: dense.step, **{path: by(path) for path in paths}}


def _parameters(config: Config, device: torch.device) -> list[Parameter]:
    moved_there = []
    for p in make_parameters(config["set"]):
        there = Parameter(p.detach().to(device))
        there.grad = None if p.grad is None else p.grad.to(device)
        moved_there.append(there)
    return moved_there


def _way(step: Callable[[], Any], device: torch.device) -> Way:
    def turn() -> float:
        step()  # after another backend the weights are compared once
        _wait(device)
        return timed(until_done)

    def until_done() -> None:
        step()
        _wait(device)

    return turn


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kernels(step: Callable[[], Any], device: torch.device) -> int:
    """Count what a step starts on the device: none on a CPU."""
    if device.type != "cuda":
        return 0
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        _wait(device)
    return sum(event.device_type.name == "CUDA" for event in profiler.events() or ())


def report(records: Records) -> str:
    """Write the page."""
    header = ["device", "set", "base", "depth", "dense, ms", "floor"]
    for path in PATHS:
        header += [path, "of copy", "kernels"]
    rows = []
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        names = [str(config[key]) for key in ("device", "set", "base", "depth")]
        floor = f"{moved(config) / dense_moved(config):.2f}"
        cells = [*names, f"{result[DENSE]['ms']:.3f}", floor]
        for path in PATHS:
            way = result.get(path)
            cells += (
                ["", "", ""]
                if way is None
                else [f"{way['ratio']:.2f}", f"{way['of_copy']:.2f}", str(way["kernels"])]
            )
        rows.append(cells)
    return "\n".join(
        [
            "# An optimizer step on a GPU\n",
            "Made by `python -m benchmarks.step_gpu` from `step_gpu.jsonl`. " + records.provenance(),
            """
Ratios to `torch.optim`'s fused step of the same parameters without factors, medians over rounds in
which every way takes its turn, each until the device is done. "Floor": bytes that the step must move
over those of the dense step. "Of copy": these bytes over its time, against `copy_` of as much memory on
the device. Kernels: what one step starts on the device.
""",
            table(header, rows),
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (default: cuda)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each configuration, about")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu shows that the benchmark runs")
    records = Records(options.out / "step_gpu.jsonl")
    for config in tqdm(configurations(name_of(device)), unit="config"):
        if not records.has(config):
            records.add(config, measure(config, device, options.seconds))
    write_text(options.out / "step_gpu.md", report(records))
    print((options.out / "step_gpu.md").read_text())


if __name__ == "__main__":
    main()
