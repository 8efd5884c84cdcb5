"""At which learning rates does training succeed, by base kind and depth, with lr_scale="auto"?

Run as ``python -m benchmarks.lr_window``; runs that are in ``results/lr_window.jsonl`` are skipped.
The windows feed the warning in `dwf_optim.learning_rate`.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.data import SCALINGS, Data, load_digits
from benchmarks.models import DIGITS_MLP, mlp
from benchmarks.records import CONFIG, RESULT, RESULTS, Records, table, write_text
from benchmarks.training import accuracy, train
from dwf_optim import DWFOptimizer

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
}
RATES = {
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    "adam": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
DEPTHS = (1, 2, 3, 4)
PENALTIES = (0.0, 1e-4)
EPOCHS = 20
BATCH_SIZE = 64
# A rate is inside the window when its mean accuracy is within this of the best rate's.
MARGIN = 0.03
# It fails when the loss becomes non-finite or the accuracy is this far below the best rate's.
FAILURE = 0.2


def configurations() -> list[dict[str, Any]]:
    """List all runs."""
    return [
        {"inputs": scaling, "base": base, "depth": depth, "penalty": penalty, "lr": lr}
        for scaling in SCALINGS
        for base in BASES
        for depth, penalty, lr in itertools.product(DEPTHS, PENALTIES, RATES[base])
    ]


def run(config: dict[str, Any], data: Data) -> dict[str, Any]:
    """Train once and return test accuracy and whether the loss became non-finite."""
    base, options = BASES[config["base"]]
    model = mlp(DIGITS_MLP, seed=0)
    optimizer = DWFOptimizer(
        model.parameters(),
        lr=config["lr"],
        base=base,
        depth=config["depth"],
        penalty=config["penalty"],
        **options,
    )
    start = time.perf_counter()
    finite = train(
        model,
        optimizer,
        data.train,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=0,
    )
    return {
        "accuracy": accuracy(model, data.test),
        "diverged": not finite,
        "seconds": round(time.perf_counter() - start, 2),
    }


class Sweep:
    """How training went at all rates, for one scaling of the inputs, base, depth and penalty."""

    def __init__(self, records: Records, inputs: str, base: str, depth: int, penalty: float) -> None:
        same = {"inputs": inputs, "base": base, "depth": depth, "penalty": penalty}
        found = {
            row[CONFIG]["lr"]: row[RESULT] for row in records.rows if same.items() <= row[CONFIG].items()
        }
        self.inputs, self.depth, self.penalty = inputs, depth, penalty
        self.results = {lr: found[lr] for lr in RATES[base] if lr in found}

        # A diverged run counts as worse than any other.
        self.scores = {lr: -1 if r["diverged"] else r["accuracy"] for lr, r in self.results.items()}
        self.best = max(self.scores, key=self.scores.__getitem__)

    def window(self) -> tuple[float, float]:
        """Return the lowest and highest rate of the run of good rates around the best one."""
        rates, least = list(self.scores), self.scores[self.best] - MARGIN
        low = high = rates.index(self.best)
        while low > 0 and self.scores[rates[low - 1]] >= least:
            low -= 1
        while high < len(rates) - 1 and self.scores[rates[high + 1]] >= least:
            high += 1
        return rates[low], rates[high]

    def fails(self, lr: float) -> bool:
        """Say whether training went nowhere at this rate."""
        return self.scores[lr] < self.scores[self.best] - FAILURE

    def cells(self) -> list[str]:
        """Write the row of the table."""
        low, high = self.window()
        cells = [self.inputs, str(self.depth), f"{self.penalty:g}"]
        for lr, result in self.results.items():
            text = "nan" if result["diverged"] else f"{100 * result['accuracy']:.1f}"
            cells.append(f"**{text}**" if low <= lr <= high else text)
        return cells


def summarize(cases: list[Sweep]) -> list[str]:
    """Write the rates that are good in every case, good in some, and that fail in every case."""
    lows, highs = zip(*(sweep.window() for sweep in cases), strict=True)
    rates = list(cases[0].scores)
    failing = [f"{lr:g}" for lr in rates if all(sweep.fails(lr) for sweep in cases)]
    everywhere = max(lows), min(highs)
    return [
        f"{everywhere[0]:g} to {everywhere[1]:g}" if everywhere[0] <= everywhere[1] else "none",
        f"{min(lows):g} to {max(highs):g}",
        ", ".join(failing) or "none",
    ]


def report(records: Records) -> str:
    """Write the Markdown page."""
    page = [
        "# Learning rates at which training succeeds\n",
        "Made by `python -m benchmarks.lr_window` from `lr_window.jsonl`. " + records.provenance(),
        f"""
MLP {"-".join(map(str, DIGITS_MLP))} on scikit-learn's digits: {EPOCHS} epochs, batch
{BATCH_SIZE}, constant rate, `lr_scale="auto"`, torch's default initialization, one seed. Bases:
SGD with momentum 0.9, and Adam. Depth 1 is the dense base. Inputs: pixels of 0 to 1 ("unit"), or those
standardized ("standard"), which makes the loss several times as steep in the first layer's weights.

Cells: test accuracy in percent, or nan where the loss became non-finite. **Bold**: the window, which
is the unbroken run of rates around the best one within {100 * MARGIN:.0f} points of it. The
grid has two rates a decade, so a window's true edge lies up to half a decade outside.
""",
    ]
    summary = []
    for base in BASES:
        sweeps = [
            Sweep(records, inputs, base, depth, penalty)
            for inputs, depth, penalty in itertools.product(SCALINGS, DEPTHS, PENALTIES)
        ]
        header = ["inputs", "depth", "penalty", *(f"lr {lr:g}" for lr in RATES[base])]
        page += [f"## {base}\n", table(header, (sweep.cells() for sweep in sweeps))]
        for depth in DEPTHS:
            summary.append([base, str(depth), *summarize([s for s in sweeps if s.depth == depth])])
    header = ["base kind", "depth", "good in every case", "good in some case", "fails in every case"]
    page += [
        "## Windows\n",
        "The cases are both scalings and both penalties. Good: inside the case's window. Fails: the "
        f"loss became non-finite, or the accuracy is more than {100 * FAILURE:.0f} points below the "
        "best rate's. Rates below the window often train too, only slower than 20 epochs.\n",
        table(header, summary),
    ]
    return "\n".join(page)


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    # Rates outside the window are what this script is for.
    warnings.filterwarnings("ignore", message="lr outside the usable window")
    records = Records(out / "lr_window.jsonl")
    data = {scaling: load_digits(scaling) for scaling in SCALINGS}
    for config in tqdm([c for c in configurations() if not records.has(c)], unit="run"):
        records.add(config, run(config, data[config["inputs"]]))
    write_text(out / "lr_window.md", report(records))
    print(f"wrote {out / 'lr_window.md'}")


if __name__ == "__main__":
    main()
