"""What does it gain to spend the last part of a run debiased: support fixed, penalty off?

Run as ``python -m benchmarks.debias --data DIR``. Runs that are in ``results/debias.jsonl`` are
skipped; the table is made anew from that file.
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
from benchmarks.training_runs import evaluate
from dwf_optim import debias, sparsify

NET = NETS["mlp"]
DEPTHS = (2, 3, 4)
SPARSITIES = (0.9, 0.95, 0.98, 0.99)
PENALTIES = (1e-3, 3e-4)
SEEDS = (0, 1, 2)
# The part of the run after which the support is fixed.
FROM = 0.75


def configurations() -> list[dict[str, Any]]:
    """List all runs."""
    return [
        {"depth": depth, "penalty": penalty, "seed": seed}
        for seed, penalty, depth in itertools.product(SEEDS, PENALTIES, DEPTHS)
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Spend the last part of one and the same run in three ways, at every sparsity."""
    start = time.process_time()
    made = NET.run("sgd", **config)
    made.train(data.train, round(FROM * made.steps))
    cut = []
    for sparsity in SPARSITIES:
        branch = deepcopy(made)
        sparsify(branch.model, branch.optimizer, sparsity=sparsity)
        penalized = deepcopy(branch)
        penalized.train(data.train, made.steps)
        debias(branch.optimizer)
        branch.train(data.train, made.steps)
        cut.append(
            {
                "sparsity": sparsity,
                "debiased": evaluate(branch.model, data.test)["accuracy"],
                "penalized": evaluate(penalized.model, data.test)["accuracy"],
            }
        )
    made.train(data.train, made.steps)
    for row in cut:
        branch = deepcopy(made)
        sparsify(branch.model, sparsity=row["sparsity"])
        row["cut at the end"] = evaluate(branch.model, data.test)["accuracy"]
    return {"cut": cut, "seconds": round(time.process_time() - start, 1)}


def report(records: Records) -> str:
    """Write the table: a line for each depth, penalty and sparsity, means over seeds."""
    rows = []
    for depth, penalty in itertools.product(DEPTHS, PENALTIES):
        same = {"depth": depth, "penalty": penalty}
        runs = [row[RESULT]["cut"] for row in records.rows if same.items() <= row[CONFIG].items()]
        for cuts in zip(*runs, strict=True):
            ways = [[100 * cut[way] for cut in cuts] for way in ("cut at the end", *WAYS)]
            gains = [d - p for d, p in zip(ways[2], ways[1], strict=True)]
            spread = f"{mean(gains):+.2f} ({min(gains):+.2f} to {max(gains):+.2f})"
            means = [f"{mean(way):.2f}" for way in ways]
            ratio = f"{1 / (1 - cuts[0]['sparsity']):.0f}"
            rows.append([str(depth), f"{penalty:g}", ratio, *means, spread, str(len(cuts))])
    header = ["depth", "penalty", "compression", "cut at the end", *WAYS, "gain of debias", "seeds"]
    return f"""# Debias: the last part of a run without the penalty

Made by `python -m benchmarks.debias --data DIR` from `debias.jsonl`. {records.provenance()}

{NET.name}: {NET.steps} steps of batch {NET.batch_size}, SGD with momentum 0.9 at lr
{NET.lr["sgd"]:g}, cosine schedule. Test accuracy in percent, mean over seeds, of three ways to spend the
last {1 - FROM:.0%} of one and the same run:

- *cut at the end*: train on with the penalty, then `sparsify(sparsity=...)`;
- *penalized*: `sparsify` before, train on with the penalty;
- *debiased*: `sparsify` and `debias` before, train on.

Gain of debias: debiased less penalized, mean (least to most over seeds): what the penalty's absence
alone gives. Debiased less *cut at the end* is what fixing the support early gives on top.

{table(header, rows)}"""


WAYS = ("penalized", "debiased")


if __name__ == "__main__":
    study.main("debias", __doc__, configurations(), NET.data, run, report)
