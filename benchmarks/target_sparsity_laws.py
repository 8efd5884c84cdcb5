"""Other laws for `TargetSparsity`'s penalty, on held-out data: is there one without its three misses?

Run as ``python -m benchmarks.target_sparsity_laws --data DIR``. Runs that are in
``results/target_sparsity_laws.jsonl`` are skipped; the table is made anew from that file. Accuracy is
that on the validation data and with another seed than `benchmarks.target_sparsity` has, so that a law
chosen here is not chosen by what it is judged by there.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import add_data_argument
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.small_nets import NETS
from benchmarks.target_sparsity import DEPTH, START, UNTIL
from benchmarks.training_runs import evaluate
from dwf_optim import DWFOptimizer, TargetSparsity
from dwf_optim.penalty.removal import remove_smallest
from dwf_optim.penalty.target import CHANGE, DOWN, LARGEST_ERROR
from dwf_optim.ranking import zeros_at

NAME = "target_sparsity_laws"
SEED = 1


@dataclass(frozen=True)
class Law:
    """How the penalty of a run is steered.

    Attributes:
        says: What it does, for the table.
        measure: "contrast", of the weight at the target's rank, or "excess"; None: the penalty stays.
        penalty: To start from.
        aim: Of the measure.
        up: As of `dwf_optim.penalty.target`.
        falling: Whether the aim falls to 0 as the removal goes on.
        start: The part of the schedule over which nothing is removed.
    """

    says: str
    measure: str | None = None
    penalty: float = START
    aim: float = 1.0
    up: float = 0.05
    falling: bool = True
    start: float = 0.0


LAWS = {
    **{f"penalty {p:g}": Law("it stays", penalty=p) for p in (3e-5, 1e-4, 3e-4, 1e-3)},
    "late": Law("1e-4, stays; the removal begins at half of the run", penalty=1e-4, start=8 / 13),
    **{
        f"one cut, {p:g}": Law(
            "it stays; all is removed at once after three quarters", penalty=p, start=0.996
        )
        for p in (3e-4, 1e-3)
    },
    "contrast at the target": Law(
        "to 0.3, read at the target's rank", "contrast", aim=0.3, falling=False
    ),
    "excess": Law("to 1 - x, up twice as fast", "excess", up=0.1),
    "excess, slow": Law("to 1 - x", "excess"),
    "excess 3": Law("to 3 (1 - x), up twice as fast", "excess", aim=3.0, up=0.1),
    "excess, level": Law("to 1, up twice as fast", "excess", up=0.1, falling=False),
}
LOOP = "loop"
# Laws that steer: everywhere. Penalties that stay: in the two misses that differ most.
STEERED = tuple(name for name, law in LAWS.items() if law.measure)
STAYS = tuple(f"penalty {p:g}" for p in (3e-5, 1e-4, 3e-4, 1e-3))
CASES: dict[tuple[str, str, float], tuple[str, ...]] = {
    ("transformer", "adam", 0.99): (*STAYS, "late", "one cut, 0.0003", *STEERED),
    ("transformer", "adam", 0.98): STEERED,
    ("mlp", "sgd", 0.99): (*STAYS, "one cut, 0.001", *STEERED),
    ("mlp", "adam", 0.99): STEERED,
    ("cnn", "sgd", 0.99): STEERED,
    ("cnn", "adam", 0.98): STEERED,
    ("mlp", "adam", 0.9): STEERED,
    ("transformer", "adam", 0.9): STEERED,
}


class Variant(TargetSparsity):
    """`TargetSparsity` with another law for the penalty."""

    def __init__(self, optimizer: DWFOptimizer, sparsity: float, total_steps: int, law: Law) -> None:
        super().__init__(optimizer, sparsity, total_steps, until=UNTIL)
        self.law = law

    def _look(self, done: float) -> None:
        done = (done - self.law.start) / (1 - self.law.start)
        if done <= 0:
            return
        measured = self._measured() if self.law.measure else 1.0
        contrast = remove_smallest(self.optimizer, self.sparsity * (1 - (1 - done) ** 3))
        if math.isnan(contrast):
            return
        if done == 1.0:
            self._finish(contrast)
        elif self.law.measure:
            self._answer(measured / (self.law.aim * ((1 - done) if self.law.falling else 1)))

    def _measured(self) -> float:
        """Return the contrast or the excess at the target's rank."""
        sizes = torch.cat([p.detach().abs().flatten() for p in self.optimizer.factorized()]).double()
        ordered = sizes.sort().values
        count = zeros_at(self.sparsity, len(ordered))
        stay = ordered[count:].square()
        if self.law.measure == "contrast":
            return float(ordered[count - 1] / stay.mean().sqrt())
        return float(ordered[:count].square().sum() / stay.sum())

    def _answer(self, ratio: float) -> None:
        error = min(max(math.log(max(ratio, 1e-38)), -LARGEST_ERROR), LARGEST_ERROR)
        change = 0.0 if self._error is None else error - self._error
        self._error = error
        for group in self.optimizer.param_groups:
            group["penalty"] *= math.exp((self.law.up if error > 0 else DOWN) * error + CHANGE * change)


def configurations() -> list[dict[str, Any]]:
    """List all runs, case by case, the loop as it is first."""
    return [
        {"net": net, "base": base, "sparsity": sparsity, "law": law, "seed": SEED}
        for (net, base, sparsity), laws in CASES.items()
        for law in (LOOP, *laws)
    ]


def run(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train by a law and measure on held-out data."""
    net, law = NETS[config["net"]], LAWS.get(config["law"])
    data = net.data(folder)
    penalty = law.penalty if law else START
    made = net.run(config["base"], depth=DEPTH, penalty=penalty, seed=config["seed"])
    optimizer, sparsity = made.optimizer, config["sparsity"]
    assert isinstance(optimizer, DWFOptimizer)
    if law is None:
        loop = TargetSparsity(optimizer, sparsity, made.steps, until=UNTIL)
    else:
        loop = Variant(optimizer, sparsity, made.steps, law)
    finite = made.train(data.train, made.steps, loop.step)
    return {"finite": finite, **evaluate(made.model, data.validation)}


def report(records: Records) -> str:
    """Write the page."""
    made = {
        tuple(row[CONFIG][k] for k in ("net", "base", "sparsity", "law")): row for row in records.rows
    }
    rows = []
    for law in (LOOP, *LAWS):
        cells = []
        for case in CASES:
            row = made.get((*case, law))
            cells.append(f"{100 * row[RESULT]['accuracy']:.2f}" if row else "")
        rows.append([law, LAWS[law].says if law in LAWS else "as it is", *cells])
    header = [f"{NETS[net].name}, {base}, {sparsity:.0%}" for net, base, sparsity in CASES]
    return f"""# Other laws for the penalty of TargetSparsity

Made by `python -m benchmarks.{NAME} --data DIR` from `{NAME}.jsonl`. {records.provenance()}

Nets and steps are those of [the comparison with fixed penalties](target_sparsity.md), the seed is
{SEED}, and accuracy in percent is that on the **held-out part of the training data** (of the text: the
part before the test's). One run a cell, so that a few tenths are nothing; empty cells were not run. All
but the cuts remove gradually. Excess: the squared norm of the weights that have yet to go, over that
of those that will stay; x: how much of the schedule is over.

{table(["law", "the penalty", *header], rows)}"""


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(options.out / f"{NAME}.jsonl")
    for config in tqdm(configurations(), unit="run"):
        if not records.has(config):
            records.add(config, run(config, options.data))
    write_text(options.out / f"{NAME}.md", report(records))


if __name__ == "__main__":
    main()
