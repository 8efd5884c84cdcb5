"""The points of an experiment's table, collected from its runs."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.frontier.experiments import Experiment, key
from benchmarks.frontier.metric import metric_of
from benchmarks.frontier.runner import choose
from benchmarks.records import CONFIG, RESULT, Records


class Point(NamedTuple):
    """A method at a compression: what its metric is on the test set, one a seed, and what was chosen."""

    values: tuple[float, ...]
    lr: float
    strength: float


Points = dict[str, dict[float, Point]]


def points_of(experiment: Experiment, records: Records) -> Points:
    """Collect the final runs; a point is there when all its seeds are."""
    results = {key(row[CONFIG]): row for row in records.rows}
    metric = metric_of(experiment.data)
    found: dict[tuple[str, float], list[float]] = {}
    chosen = choose(experiment, records)
    for config in experiment.final(chosen):
        row = results.get(key(config))
        for point in row[RESULT]["points"] if row else ():
            found.setdefault((config["method"], point["compression"]), []).append(metric.of(point))
    made: Points = {}
    for (name, compression), values in sorted(found.items()):
        if len(values) == len(experiment.seeds):
            point = Point(tuple(values), *chosen[name, compression])
            made.setdefault(name, {})[compression] = point
    return {name: made[name] for name in experiment.methods if name in made}
