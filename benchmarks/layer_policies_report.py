"""The page of `benchmarks.layer_policies`."""

from __future__ import annotations

from statistics import mean
from typing import Any

from benchmarks.records import CONFIG, RESULT, Records, table


def report(records: Records) -> str:
    """Write the Markdown page."""
    rows = [row for row in records.rows if row[RESULT]["cuts"]]
    if not rows:
        return "# Penalties by layer\n\nNo runs yet.\n"
    diverged = len(records.rows) - len(rows)
    networks = list(dict.fromkeys(row[CONFIG]["network"] for row in rows))
    parts = [
        f"""\
# Penalties by layer

Made by `python -m benchmarks.layer_policies --data DIR` from `layer_policies.jsonl`.
{records.provenance()}

scikit-learn's digits (the MLP) and MNIST (the LeNets), depth {rows[0][CONFIG]["depth"]}, lr
{rows[0][CONFIG]["lr"]:g} with a cosine schedule, momentum {rows[0][CONFIG]["momentum"]:g}; part of the
training images is held out. Every run is cut to each
compression by `sparsify(sparsity=...)`, without training on. {diverged} of {len(records.rows)} runs
diverged.
"""
    ]
    for network in networks:
        mine = [row for row in rows if row[CONFIG]["network"] == network]
        parts += [f"## {network}\n", _setting(mine), _table(mine)]
    parts.append("""\
`penalty_scaling="sigma"` is not run: with torch's default init, whose variance is 1 / (3 fan_in), it is
"fan_in".

The floor is `min_nonzero_per_unit=1` on the last layer, in the same runs at equal scaling; "kept" is how
many weights it kept that the cut would have taken, mean over seeds.
""")
    return "\n".join(parts)


def _setting(rows: list[dict[str, Any]]) -> str:
    def values(key: str) -> str:
        return ", ".join(f"{value:g}" for value in sorted({row[CONFIG][key] for row in rows}))

    return (
        f"{values('epochs')} epochs, batch {values('batch_size')}, seeds {values('seed')}, penalties "
        f"{values('penalty')}: of each scaling the one with the better mean accuracy on the held-out "
        "images, at each compression alone. Test accuracy in percent, mean over seeds; in brackets the "
        "lowest and the highest.\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    scalings = list(dict.fromkeys(row[CONFIG]["scaling"] for row in rows))
    lines = []
    for index, cut in enumerate(rows[0][RESULT]["cuts"]):
        line = [f"{cut['compression']:g}"]
        for scaling in scalings:
            line.append(_accuracy(_best(rows, scaling, index), "plain"))
        best = _best(rows, scalings[0], index)
        line += [_accuracy(best, "floor"), f"{mean(made['floor']['protected'] for made in best):.1f}"]
        lines.append(line)
    header = ["compression", *(f'"{s}"' for s in scalings), f'"{scalings[0]}", floor', "kept"]
    return table(header, lines)


def _best(rows: list[dict[str, Any]], scaling: str, index: int) -> list[dict[str, Any]]:
    """Return the cuts, one a seed, at the penalty that validates best."""
    by_penalty: dict[float, list[dict[str, Any]]] = {}
    for row in rows:
        if row[CONFIG]["scaling"] == scaling:
            by_penalty.setdefault(row[CONFIG]["penalty"], []).append(row[RESULT]["cuts"][index])
    return max(by_penalty.values(), key=lambda cuts: mean(cut["plain"]["validation"] for cut in cuts))


def _accuracy(cuts: list[dict[str, Any]], way: str) -> str:
    values = [100 * cut[way]["test"] for cut in cuts]
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"
