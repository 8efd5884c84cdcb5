"""Deep factorization against the other methods and against what is published, wins and losses alike."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

from benchmarks.frontier.experiments import Experiment
from benchmarks.frontier.metric import metric_of
from benchmarks.frontier.points import Point, Points
from benchmarks.frontier.published import PUBLISHED, SOURCES
from benchmarks.records import table

OURS = "dwf-"


def against_others(experiment: Experiment, points: Points) -> list[str]:
    """Compare the best depth with the best other method at every compression.

    Returns:
        Lines of Markdown; none where one side has no runs.
    """
    metric, rows, wins = metric_of(experiment.data), [], 0
    for compression in experiment.compressions:
        ours = _best(points, compression, (name for name in points if name.startswith(OURS)))
        other = _best(points, compression, (name for name in points if not name.startswith(OURS)))
        if ours is None or other is None:
            continue
        difference = mean(ours[1].values) - mean(other[1].values)
        wins += difference < 0
        overlap = max(min(p.values) for _, p in (ours, other)) <= min(
            max(p.values) for _, p in (ours, other)
        )
        best = [cell for name, p in (ours, other) for cell in (name, metric.text(mean(p.values)))]
        verdict = "**loses**" if difference > 0 else "wins" if difference < 0 else "even"
        rows.append(
            [f"{compression:g}", *best, f"{difference:+.3f}", verdict, "yes" if overlap else "no"]
        )
    if not rows:
        return []
    names = ["best depth", metric.name, "best other", metric.name]
    return [
        "## Deep factorization against the others\n",
        "The best depth and the best other method at each compression, by the mean of seeds on the test "
        f"set. Depths win at {wins} of {len(rows)} compressions.\n",
        table(["compression", *names, "difference", "the depth", "seeds overlap"], rows),
    ]


def against_published(experiment: Experiment, points: Points) -> list[str]:
    """Put our lowest error beside every published one, at no lower compression.

    Returns:
        Lines of Markdown; none where nothing is published.
    """
    published, rows = PUBLISHED.get((experiment.network, experiment.data), {}), []
    for source, line in published.items():
        for at, error in line:
            reached = 1.0 if at == 1 else next((c for c in experiment.compressions if c >= at), None)
            ours = None if reached is None else _best(points, reached, points)
            start = [source, f"{at:g}", f"{error:.2f}"]
            if ours is None:
                rows.append([*start, "–", "not run", "", ""])
                continue
            found = mean(ours[1].values)
            verdict = "better" if found < error else "**worse**" if found > error else "even"
            rows.append([*start, f"{reached:g}", ours[0], f"{found:.2f}", verdict])
    if not rows:
        return []
    header = ["published", "compression", "error, %", "ours at", "method", "error, %", "ours is"]
    return [
        "## Published results\n",
        "Each beside the best of our methods at the next compression that we ran, which is never lower; "
        "dense beside dense. Networks are the same, training is not.\n",
        table(header, rows),
        *(f"- {name}: {SOURCES[name]}." for name in published),
        "",
    ]


def _best(points: Points, compression: float, names: Iterable[str]) -> tuple[str, Point] | None:
    found = [(name, points[name][compression]) for name in names if compression in points[name]]
    return min(found, key=lambda each: mean(each[1].values), default=None)
