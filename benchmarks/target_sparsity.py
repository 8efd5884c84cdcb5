"""Does `TargetSparsity` reach what it is asked for, and as well as the best fixed penalty would?

Run as ``python -m benchmarks.target_sparsity --data DIR``. Runs that are in
``results/target_sparsity.jsonl`` are skipped; the table is made anew from that file.
"""

from __future__ import annotations

import argparse
import itertools
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import Data, add_data_argument
from benchmarks.records import RESULTS, Records, write_text
from benchmarks.small_nets import BASES, NETS
from benchmarks.target_sparsity_report import report
from benchmarks.training_runs import Run, evaluate
from dwf_optim import TargetSparsity, debias, sparsify

DEPTH = 3
SEED = 0
SPARSITIES = (0.9, 0.95, 0.98, 0.99)
# Half a decade apart, the likely ones first.
PENALTIES = {
    ("mlp", "sgd"): (1e-3, 3e-4, 3e-3, 1e-4),
    ("cnn", "sgd"): (1e-2, 3e-3, 1e-3, 3e-4),
    ("transformer", "sgd"): (1e-3, 3e-4, 3e-3, 1e-4),
    ("mlp", "adam"): (1e-4, 3e-5, 3e-4, 1e-5),
    ("cnn", "adam"): (3e-4, 1e-4, 1e-3, 3e-5),
    ("transformer", "adam"): (1e-4, 3e-5, 3e-4, 1e-5),
}
# The penalty that the loop starts from: any will do.
START = 1e-5
# The part of a run that the fixed penalties are on for, in the variant that trains on afterwards; that
# of the loop, too.
UNTIL = 0.75


def configurations() -> list[dict[str, Any]]:
    """List all runs: the dense ones, the loop's, then those of fixed penalties."""
    configs = []
    for base, net in itertools.product(BASES, NETS):
        same = {"net": net, "base": base, "seed": SEED}
        configs.append({**same, "depth": 1, "method": "dense"})
        configs += [{**same, "depth": DEPTH, "method": "loop", "sparsity": s} for s in SPARSITIES]
        configs += [
            {**same, "depth": DEPTH, "method": "fixed", "penalty": penalty}
            for penalty in PENALTIES[net, base]
        ]
    # Breadth first, so that a table can be made early.
    each = len(configs) // (len(BASES) * len(NETS))
    return sorted(configs, key=lambda config: configs.index(config) % each)


def run(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train by a configuration and measure on test."""
    net = NETS[config["net"]]
    data = net.data(folder)
    penalties = {"dense": 0.0, "loop": START, "fixed": config.get("penalty", 0.0)}
    made = net.run(
        config["base"],
        depth=config["depth"],
        penalty=penalties[config["method"]],
        seed=config["seed"],
    )
    start = time.process_time()
    result = METHODS[config["method"]](made, data, config)
    return {**result, "seconds": round(time.process_time() - start, 1)}


def dense(made: Run, data: Data, config: dict[str, Any]) -> dict[str, Any]:
    """Train without penalty."""
    finite = made.train(data.train, made.steps)
    return {"finite": finite, **measured(made, data)}


def loop(made: Run, data: Data, config: dict[str, Any]) -> dict[str, Any]:
    """Train with the loop."""
    target = TargetSparsity(made.optimizer, config["sparsity"], made.steps, until=UNTIL)
    penalties: list[float] = []

    def after_step() -> None:
        target.step()
        penalties.append(max(target.get_last_penalty()))

    finite = made.train(data.train, made.steps, after_step)
    return {
        "finite": finite,
        "reached_at": target.reached_at,
        "highest_penalty": max(penalties),
        **measured(made, data),
    }


def fixed(made: Run, data: Data, config: dict[str, Any]) -> dict[str, Any]:
    """Train with one penalty, and cut to every target: in the end, and with time to train on."""
    finite = made.train(data.train, round(UNTIL * made.steps))
    result: dict[str, Any] = {"finite": finite, "tail": [], "end": []}
    for sparsity in SPARSITIES if finite else ():
        branch = deepcopy(made)
        sparsify(branch.model, branch.optimizer, sparsity=sparsity)
        debias(branch.optimizer)
        branch.train(data.train, branch.steps)
        result["tail"].append({"sparsity": sparsity, **measured(branch, data)})
    if finite and made.train(data.train, made.steps):
        for sparsity in SPARSITIES:
            branch = deepcopy(made)
            sparsify(branch.model, branch.optimizer, sparsity=sparsity)
            result["end"].append({"sparsity": sparsity, **measured(branch, data)})
    return result


METHODS = {"dense": dense, "loop": loop, "fixed": fixed}


def measured(made: Run, data: Data) -> dict[str, Any]:
    """Count the weights that are left, of those that `param_groups` factorizes, and test."""
    weights = [p for p in made.optimizer.param_groups[0]["params"] if p.ndim >= 2]
    return {
        "weights": sum(p.numel() for p in weights),
        "nonzero": sum(int(p.count_nonzero()) for p in weights),
        **evaluate(made.model, data.test),
    }


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--only", nargs="*", choices=[*METHODS, *NETS, *BASES], default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "target_sparsity.jsonl"
    wanted = [c for c in configurations() if set(options.only) <= {str(v) for v in c.values()}]
    for config in tqdm(wanted, unit="run"):
        records = Records(path)  # another process may have added to it
        if not records.has(config):
            records.add(config, run(config, options.data))
    write_text(options.out / "target_sparsity.md", report(Records(path)))
    print(f"wrote {options.out / 'target_sparsity.md'}")


if __name__ == "__main__":
    main()
