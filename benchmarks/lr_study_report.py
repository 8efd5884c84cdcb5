"""The page of `benchmarks.lr_study`: verdicts, best rates, boundaries, and every curve."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.lr_curves import DENSE, FAILURE, REACH, Curve, Match, curve, match, values_of
from benchmarks.lr_rules import SAYS
from benchmarks.records import CONFIG, RESULT, Records, table

COMMAND = "python -m benchmarks.lr_study --data DIR"


def report(records: Records) -> str:
    """Write the Markdown page."""
    if not records.rows:
        return "# One learning rate for every depth\n\nNo runs yet.\n"
    page = [
        "# One learning rate for every depth\n",
        f"Made by `{COMMAND}` from `lr_study.jsonl`, which holds every run. {records.provenance()}\n",
        _setting(records),
    ]
    for base in values_of(records, "base"):
        page += [f"## {base}\n", _verdict(records, base)]
        page += [f"![accuracy against learning rate, {base}](lr_study_{base.lower()}.png)\n"]
        page += [f"### Best rates and where training fails, {base}\n", _best_rates(records, base)]
    page += [f"## Every curve\n\n{_CELLS}\n"]
    for base in values_of(records, "base"):
        page += [f"### {base}, curve by curve\n", _every_curve(records, base)]
    return "\n".join(page)


_CELLS = """\
Held-out accuracy in percent, mean over the seeds run at that rate; nan where the loss of one became
non-finite. **Bold**: the best rate, which the tables above use."""


def _setting(records: Records) -> str:
    config = [row[CONFIG] for row in records.rows]
    nets = []
    for net in values_of(records, "net"):
        one = next(c for c in config if c["net"] == net)
        steps = one["epochs"] * -(-one["images"] // one["batch_size"])
        runs = [row for row in records.rows if row[CONFIG]["net"] == net]
        minutes = sum(row[RESULT]["cpu_seconds"] for row in runs) / 60
        cells = (one["images"], one["epochs"], one["batch_size"], steps, len(runs), f"{minutes:.0f}")
        nets.append([net, *map(str, cells)])
    penalty = max(c["penalty"] for c in config)
    header = ["network", "images", "epochs", "batch", "steps", "runs", "CPU minutes, all runs"]
    return f"""\
{table(header, nets)}
LeNets on MNIST, the small VGG (three convolutions with batch norm) on CIFAR-10, pixels standardized,
torch's default initialization, cosine schedule. SGD has momentum 0.9. Dense is the base itself;
depths 2 to 4 have penalty {penalty:g} and `init="preserve"`. Accuracy is that on held-out training
images. Runs are short: they compare rules, and are no measure of what the networks reach.

{table(["rule", "what it does to the rate"], ([rule, SAYS[rule]] for rule in SAYS))}
The grid has two rates a decade. A curve starts with the dense best rate and {REACH} step to both sides,
and goes on until its own best rate has neighbours on both sides. Seed 0 runs everything; more seeds run
around the peaks of dense, of the default and of each base's two best rules, as far as the machine could
afford it: the tables say how many. The best rate is that of the highest mean among the rates that most
seeds ran.
"""


def pairs(records: Records, base: str, rule: str) -> Iterator[tuple[str, int, Curve, Curve]]:
    """Go through network, depth, dense curve and the rule's curve, where both are there."""
    for net in values_of(records, "net"):
        dense = curve(records, net=net, base=base, rule=DENSE)
        for depth in sorted(set(values_of(records, "depth")) - {1}):
            other = curve(records, net=net, base=base, rule=rule, depth=depth)
            if dense and other and dense.best in other.means:
                yield net, depth, dense, other


def _rates(records: Records, base: str) -> list[float]:
    return sorted(values_of(records, "lr", base=base))


def _rules(records: Records, base: str) -> list[str]:
    there = values_of(records, "rule", base=base)
    return [rule for rule in SAYS if rule in there]


def _verdict(records: Records, base: str) -> str:
    rates, rows, holding = _rates(records, base), [], []
    places = len(values_of(records, "net")) * len(set(values_of(records, "depth")) - {1})
    for rule in _rules(records, base):
        found = [(net, match(rates, *both)) for net, _, *both in pairs(records, base, rule)]
        if not found:
            continue
        inside = sum(m.holds for _, m in found)
        if inside == places:
            holding.append(rule)
        by_net = [_shifts([m for n, m in found if n == net]) for net in values_of(records, "net")]
        lost = 100 * statistics.fmean(m.lost for _, m in found)
        most = 100 * max(m.lost for _, m in found)
        rows.append([rule, *by_net, f"{inside} of {len(found)}", f"{lost:.1f}", f"{most:.1f}"])
    header = ["rule", *values_of(records, "net"), "within one step", "points lost, mean", "most"]
    says = f"Rules that hold: {', '.join(holding)}." if holding else "No rule holds everywhere."
    return (
        "Steps of the grid from the dense best rate to that of depth 2 / 3 / 4, and the points of "
        "accuracy lost by keeping the dense best rate. A rule holds when every depth's best rate is "
        "within one step of dense on every network. A question mark: a rate beside the best one was not "
        f"run, so the peak may lie beyond, and does not count as within. **{says}**\n\n"
        f"{table(header, rows)}"
    )


def _shifts(found: Sequence[Match]) -> str:
    marks = [f"{m.shift:+d}" if m.shift else "0" for m in found]
    return " / ".join(mark if m.seen else f"{mark}?" for mark, m in zip(marks, found, strict=True))


def _best_rates(records: Records, base: str) -> str:
    rows = []
    for net in values_of(records, "net"):
        dense = curve(records, net=net, base=base, rule=DENSE)
        if dense:
            rows.append([net, DENSE, "1", *_summary(dense)])
        for rule in _rules(records, base):
            for where, depth, _, other in pairs(records, base, rule):
                if where == net:
                    rows.append([net, rule, str(depth), *_summary(other)])
    header = ["network", "rule", "depth", "best lr", "accuracy", "seeds", "fails from"]
    return (
        "Fails from: the lowest rate run above the best at which a loss became non-finite or an "
        f"accuracy was below {FAILURE:g} of the best one; a dash where no rate that was run failed.\n\n"
        f"{table(header, rows)}"
    )


def _summary(found: Curve) -> list[str]:
    boundary, each = found.boundary(), found.accuracies[found.best]
    spread = f" ({100 * min(each):.1f} to {100 * max(each):.1f})" if len(each) > 1 else ""
    return [
        f"{found.best:g}",
        f"{100 * found.height:.1f}{spread}",
        str(len(each)),
        "-" if boundary is None else f"{boundary:g}",
    ]


def _every_curve(records: Records, base: str) -> str:
    rates, rows = _rates(records, base), []
    for net in values_of(records, "net"):
        for rule in [DENSE, *_rules(records, base)]:
            for depth in sorted(values_of(records, "depth")):
                found = curve(records, net=net, base=base, rule=rule, depth=depth)
                if found:
                    rows.append([net, rule, str(depth), *(_cell(found, lr) for lr in rates)])
    return table(["network", "rule", "depth", *(f"{lr:g}" for lr in rates)], rows)


def _cell(found: Curve, lr: float) -> str:
    if lr not in found.accuracies:
        return ""
    text = f"{100 * found.means[lr]:.1f}" if min(found.accuracies[lr]) > 0 else "nan"
    return f"**{text}**" if lr == found.best else text
