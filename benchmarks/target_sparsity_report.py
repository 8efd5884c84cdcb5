"""The page of `benchmarks.target_sparsity`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table
from benchmarks.small_nets import BASES, NETS

# The project's goals: the part of the requested number of nonzeros, and points of accuracy.
WITHIN, POINTS = 0.1, 0.3
# The two ways in which a run of a fixed penalty is brought to the target.
WAYS = {"tail": "cut and debiased", "end": "cut at the end"}


def report(records: Records) -> str:
    """Write the page."""
    lines = list(_judged(records))
    counted = [line["counted"] for line in lines]
    close = [line["difference"] >= -POINTS for line in lines if line["difference"] is not None]
    verdict = (
        f"Nonzeros within {WITHIN:.0%} of those asked for: {sum(counted)} of {len(counted)} runs."
        f" Accuracy at most {POINTS} points below the best fixed: {sum(close)} of {len(close)}."
    )
    nets = "\n".join(
        f"- {net.name}: {net.steps} steps of batch {net.batch_size}, "
        + ", ".join(f"lr {rate:g} ({base})" for base, rate in net.lr.items())
        + (f", gradients clipped to norm {net.clip:g}" if net.clip else "")
        for net in NETS.values()
    )
    penalties = sorted({row[CONFIG]["penalty"] for row in _of(records, method="fixed")})
    header = [
        *("net", "base", "asked", "reached", "left / asked", "highest penalty", "accuracy", "bits"),
        *("best fixed", "its penalty", "how", "difference"),
    ]
    return f"""# TargetSparsity against the best fixed penalty

Made by `python -m benchmarks.target_sparsity --data DIR` from `target_sparsity.jsonl`.
{records.provenance()}

{nets}

Depth 3, `lr_scale="auto"`, cosine schedule, one seed; bases: SGD with momentum 0.9, and Adam. MNIST:
the 10000 test images, for LeNet-5 every second of them. Text: Python's own help topics, next character;
the last tenth is the test. Factorized: what `param_groups` chooses.

The loop starts from penalty 1e-5 everywhere. Fixed penalties ({", ".join(f"{p:g}" for p in penalties)})
have the same steps, and are brought to exactly the same number of zeros in two ways: cut by magnitude
after three quarters of the run, which is when the loop is done, and debiased for the rest; or cut at
the end. The best of both ways and all penalties **on the test data itself** is what the loop is compared
with, so the comparison favours the fixed penalties.

## Verdict

{verdict}

{table(header, (_cells(line) for line in lines))}
Highest penalty: of the loop. Accuracy in percent; bits: cross-entropy a sample or character; difference:
points of accuracy, loop less best fixed. An asterisk: the lowest or highest penalty that was tried, so
that a better one may lie beyond.

## Dense

{table(["net", "base", "accuracy", "bits"], _dense(records))}
## Fixed penalties

Test accuracy in percent: cut after three quarters and debiased / cut at the end.

{_grid(records)}"""


def _of(records: Records, **same: Any) -> list[dict[str, Any]]:
    return [row for row in records.rows if same.items() <= row[CONFIG].items()]


def _judged(records: Records) -> Iterator[dict[str, Any]]:
    """Go through the loop's runs, each with the best fixed penalty at its sparsity."""
    for base in BASES:
        for net in NETS:
            for row in _of(records, net=net, base=base, method="loop"):
                sparsity, result = row[CONFIG]["sparsity"], row[RESULT]
                asked = (1 - sparsity) * result["weights"]
                candidates = [
                    (cut["accuracy"], fixed[CONFIG]["penalty"], WAYS[way])
                    for fixed in _of(records, net=net, base=base, method="fixed")
                    for way in WAYS
                    for cut in fixed[RESULT][way]
                    if cut["sparsity"] == sparsity
                ]
                best = max(candidates, default=None)
                penalties = [penalty for _, penalty, _ in candidates]
                yield {
                    **{"net": NETS[net].name, "base": base, "sparsity": sparsity, **result},
                    "left": result["nonzero"] / asked,
                    "counted": abs(result["nonzero"] - asked) <= WITHIN * asked,
                    "best": best,
                    "edges": {min(penalties), max(penalties)} if best else set(),
                    "difference": 100 * (result["accuracy"] - best[0]) if best else None,
                }


def _cells(line: dict[str, Any]) -> list[str]:
    cells = [
        *(line["net"], line["base"], f"{line['sparsity']:.0%}"),
        f"{1 - line['nonzero'] / line['weights']:.2%}",
        f"{line['left']:.3f}",
        f"{line['highest_penalty']:.2g}",
        f"{100 * line['accuracy']:.2f}",
        f"{line['bits']:.3f}",
    ]
    if line["best"] is None:
        return [*cells, "", "", "", ""]
    accuracy, penalty, way = line["best"]
    edge = "\\*" if penalty in line["edges"] else ""
    return [*cells, f"{100 * accuracy:.2f}", f"{penalty:g}{edge}", way, f"{line['difference']:+.2f}"]


def _dense(records: Records) -> Iterator[list[str]]:
    for row in _of(records, method="dense"):
        accuracy, bits = row[RESULT]["accuracy"], row[RESULT]["bits"]
        name = NETS[row[CONFIG]["net"]].name
        yield [name, row[CONFIG]["base"], f"{100 * accuracy:.2f}", f"{bits:.3f}"]


def _grid(records: Records) -> str:
    rows: list[list[str]] = []
    sparsities: list[float] = []
    for base in BASES:
        for net in NETS:
            runs = _of(records, net=net, base=base, method="fixed")
            for row in sorted(runs, key=lambda row: row[CONFIG]["penalty"]):
                result = row[RESULT]
                cells = [NETS[net].name, base, f"{row[CONFIG]['penalty']:g}"]
                for index, tail in enumerate(result["tail"]):
                    end = f"{100 * result['end'][index]['accuracy']:.2f}" if result["end"] else "nan"
                    cells.append(f"{100 * tail['accuracy']:.2f} / {end}")
                sparsities = [tail["sparsity"] for tail in result["tail"]] or sparsities
                rows.append(cells)
    header = ["net", "base", "penalty", *(f"{sparsity:.0%}" for sparsity in sparsities)]
    return table(header, [[*cells, *[""] * (len(header) - len(cells))] for cells in rows])
