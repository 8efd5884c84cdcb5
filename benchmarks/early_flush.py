"""Does it change the outcome to zero weights for good, during training, once they are very small?

Run as ``python -m benchmarks.early_flush --data DIR``. Runs that are in ``results/early_flush.jsonl``
are skipped; the table is made anew from that file.
"""

from __future__ import annotations

import itertools
import time
from copy import deepcopy
from statistics import mean
from typing import Any

from benchmarks import study
from benchmarks.data import Data
from benchmarks.records import CONFIG, RESULT, Records, table
from benchmarks.small_nets import NETS
from benchmarks.training import compression
from benchmarks.training_runs import evaluate
from dwf_optim import DWFOptimizer, sparsify

NET = NETS["mlp"]
DEPTHS = (3, 2, 4)
# |weight| below which a weight becomes zero for good; 0 leaves all, but for what underflow kills.
LEVELS = (0.0, 1e-2, 1e-3, 1e-5, 1e-7, 1e-4, 1e-6)
PENALTY = 1e-3
SEEDS = (0,)
# Steps between two flushes.
EVERY = 10
# At the end all are cut to these, so that they compare at one size.
SPARSITIES = (0.95, 0.98, 0.99)


def configurations() -> list[dict[str, Any]]:
    """List all runs."""
    return [
        {"depth": depth, "penalty": PENALTY, "level": level, "seed": seed}
        for seed, level, depth in itertools.product(SEEDS, LEVELS, DEPTHS)
    ]


def flush(optimizer: DWFOptimizer, level: float) -> None:
    """Set weights below a level to zero, with factors and state."""
    for parameter in list(optimizer.factorized()):
        optimizer.zero_(parameter, parameter.detach().abs() < level)


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once and measure on test."""
    start = time.process_time()
    made = NET.run("sgd", depth=config["depth"], penalty=config["penalty"], seed=config["seed"])
    optimizer = made.optimizer
    assert isinstance(optimizer, DWFOptimizer)

    def after_step() -> None:
        if config["level"] and made.done % EVERY == 0:
            flush(optimizer, config["level"])

    finite = made.train(data.train, made.steps, after_step)
    result: dict[str, Any] = {
        "finite": finite,
        "test": evaluate(made.model, data.test)["accuracy"],
        "compression": compression(made.model),
        "compression_1e-3": compression(made.model, 1e-3),
        "cut": [],
    }
    for sparsity in SPARSITIES:
        model = deepcopy(made.model)
        sparsify(model, sparsity=sparsity)
        result["cut"].append({"sparsity": sparsity, **evaluate(model, data.test)})
    return {**result, "seconds": round(time.process_time() - start, 1)}


def report(records: Records) -> str:
    """Write the table: a line for each depth and level, means over seeds."""
    rows = []
    for depth, level in itertools.product(sorted(DEPTHS), sorted(LEVELS)):
        same = {"depth": depth, "level": level}
        runs = [row[RESULT] for row in records.rows if same.items() <= row[CONFIG].items()]
        if not runs:
            continue
        cells = [str(depth), f"{level:g}", f"{mean([100 * r['test'] for r in runs]):.2f}"]
        cells += [f"{mean([r[key] for r in runs]):.1f}" for key in ("compression", "compression_1e-3")]
        for index in range(len(SPARSITIES)):
            cells.append(f"{mean([100 * r['cut'][index]['accuracy'] for r in runs]):.2f}")
        rows.append([*cells, str(len(runs))])
    cuts = [f"cut to {sparsity:.0%}" for sparsity in SPARSITIES]
    header = ["depth", "level", "test", "compression", "at 1e-3", *cuts, "seeds"]
    return f"""# Early flush: zeroing small weights during training

Made by `python -m benchmarks.early_flush --data DIR` from `early_flush.jsonl`. {records.provenance()}

{NET.name}: {NET.steps} steps of batch {NET.batch_size}, SGD with momentum 0.9 at lr
{NET.lr["sgd"]:g}, cosine schedule, penalty {PENALTY:g}. Every {EVERY} steps all weights below the level
become zero for good, with factors and momentum. Test accuracy in percent, as trained and after a cut
to one sparsity; compression by exact zeros, and with what is at most 1e-3 counted as zero; means over
seeds.

{table(header, rows)}"""


if __name__ == "__main__":
    study.main("early_flush", __doc__, configurations(), NET.data, run, report)
