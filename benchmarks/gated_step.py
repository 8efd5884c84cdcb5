"""How long does a step of weights that share gates take, against torch's fused dense step?

Run as ``python -m benchmarks.gated_step``; what is in ``results/gated_step.jsonl`` is skipped. Ways take
turns in one process, as in `benchmarks.step`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.shapes import elements
from benchmarks.step_ways import (
    BASES,
    DENSE,
    FLOAT,
    LR,
    PENALTY,
    Config,
    Way,
    dense_moved,
    make_optimizer,
    make_parameters,
    timed,
)
from benchmarks.turns import median_and_quartiles, ratios, take_turns
from dwf_optim import DWFOptimizer

# By the number of a tensor's dimensions.
STRUCTURES: dict[str, dict[int, str]] = {
    "rows": {2: "neuron", 4: "filter"},
    "columns": {2: "input", 4: "input"},
}
# "reference" is what "blocked" does with groups.
PATHS = ("blocked", "native")
ELEMENTWISE = "elementwise, native"
KEYS = ("set", "structure", "base", "depth")
CONFIGS: list[Config] = [
    dict(zip(KEYS, values, strict=True))
    for values in (
        ("resnet18", "rows", "SGD momentum", 3),
        ("resnet18", "rows", "Adam", 3),
        ("resnet18", "columns", "SGD momentum", 3),
        ("resnet18", "columns", "Adam", 3),
        ("resnet18", "rows", "SGD momentum", 2),
        ("resnet18", "rows", "SGD momentum", 4),
        ("lenet300", "rows", "SGD momentum", 3),
        ("lenet300", "rows", "Adam", 3),
    )
]


def make_gated(config: Config, parameters: list[Parameter]) -> DWFOptimizer:
    """Build ours with groups of weights; biases and norms are the base's."""
    base, options, _ = BASES[config["base"]]
    structures = STRUCTURES[config["structure"]]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim == ndim], "structure": structure}
        for ndim, structure in structures.items()
    ]
    groups.append({"params": [p for p in parameters if p.ndim not in structures]})
    return DWFOptimizer(
        [group for group in groups if group["params"]],
        lr=LR,
        base=base,
        penalty=PENALTY,
        depth=config["depth"],
        **options,
    )


def make_ways(config: Config) -> dict[str, Way]:
    """Build the dense step, ours by every path, and elementwise factors, over copies of one set."""
    base, options, _ = BASES[config["base"]]
    dense = make_parameters(config["set"])
    plain = base(dense, lr=LR, fused=True, **options)
    ways: dict[str, Way] = {DENSE: lambda: timed(plain.step)}
    ours = make_gated(config, _copies(dense))

    def turn(path: str) -> float:
        ours.backend = path
        ours.step()  # after another backend the weights are compared once
        return timed(ours.step)

    for path in PATHS:
        ways[path] = lambda path=path: turn(path)  # type: ignore[misc]
    elementwise = make_optimizer({**config, "storage": "full"}, _copies(dense))
    ways[ELEMENTWISE] = lambda: timed(elementwise.step)
    return ways


def measure(config: Config, seconds: float) -> dict[str, Any]:
    """Time all ways in turns: for each the median milliseconds, and ratio to the dense step."""
    ways = make_ways(config)
    for way in ways.values():  # makes states
        way()
    times = take_turns(ways, DENSE, seconds)
    result: dict[str, Any] = {"rounds": len(times[DENSE])}
    for name in ways:
        ratio, quartiles = median_and_quartiles(ratios(times, name, DENSE))
        ms = 1e3 * statistics.median(times[name].values())
        result[name] = {"ms": ms, "ratio": ratio, "quartiles": list(quartiles)}
    return result


def floor(config: Config) -> float:
    """Return the least bytes that a step moves over those of the dense one.

    The full factor and its state are read and written, the gradient is read; the weight is read, to see
    whether somebody wrote it, and written. Gates are too few to count.
    """
    states = BASES[config["base"]][2]
    return FLOAT * (1 + 2 + 2 + 2 * states) / dense_moved(config)


def report(records: Records) -> str:
    """Write the page."""
    names = (*PATHS, ELEMENTWISE)
    rows = []
    rounds = [row[RESULT]["rounds"] for row in records.rows]
    for row in records.rows:
        config, result = row[CONFIG], row[RESULT]
        cells = [str(config[key]) for key in KEYS]
        cells += [f"{result[DENSE]['ms']:.2f}", f"{floor(config):.2f}"]
        for name in names:
            low, high = result[name]["quartiles"]
            cells.append(f"{result[name]['ratio']:.2f} ({low:.2f} to {high:.2f})")
        rows.append(cells)
    sizes = {config["set"]: elements(config["set"]) for config in CONFIGS}
    listed = ", ".join(f"{name} {size / 1e6:.2f} million" for name, size in sizes.items())
    return f"""# A step of weights that share gates

Made by `python -m benchmarks.gated_step` from `gated_step.jsonl`. {records.provenance()}

Ratios to the base's own fused dense step, medians with quartiles over at least {min(rounds)} rounds in
which every way takes its turn; the dense step in milliseconds. Parameters: {listed}. Rows: filters of
convolutions and neurons of linear layers. Columns: inputs of both. Floor: bytes that have to move over
those of the dense step, with weights read to notice writes from outside. Elementwise: each weight has
factors of its own. Blocked steps groups as whole tensors in plain torch.

{table([*KEYS, "dense ms", "floor", *names], rows)}"""


def _copies(parameters: list[Parameter]) -> list[Parameter]:
    copies = [Parameter(p.detach().clone()) for p in parameters]
    for p, q in zip(parameters, copies, strict=True):
        q.grad = p.grad
    return copies


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each configuration, about")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / "gated_step.jsonl")
    for config in CONFIGS:
        if not records.has(config):
            records.add(config, measure(config, options.seconds))
    write_text(options.out / "gated_step.md", report(records))


if __name__ == "__main__":
    main()
