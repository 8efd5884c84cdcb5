"""What is removed from a model, and which parts of it have to stay."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from inference.dead_units.units import Units
from inference.graph import Graph
from inference.shrinking.attention import find_dead_heads, remove_heads_
from inference.shrinking.inputs import find_unread_inputs, select_inputs_
from inference.shrinking.owners import find_owners
from inference.shrinking.reasons import find_stuck
from inference.shrinking.removal import Removal, analyze, find_removal
from inference.shrinking.report import Stuck
from inference.shrinking.resize import resize_
from inference.shrinking.trial import Trials


class Part(NamedTuple):
    """What gets smaller together or not at all: values that are tied, or the heads of one module.

    Attributes:
        values: Of the graph; none for heads.
        attention: Path of the module whose heads they are.
    """

    values: frozenset[str] = frozenset()
    attention: str = ""


class Plan:
    """What can be removed from a model."""

    def __init__(self, model: nn.Module, graph: Graph, select_inputs: bool = False) -> None:
        """Look for it.

        Args:
            model: The model.
            graph: As `inference.capture.trace` gives it.
            select_inputs: As of `inference.shrink`.
        """
        self._analyzed = analyze(graph)
        self._owners = find_owners(model, graph)
        self._heads = find_dead_heads(model)
        self._select_inputs = select_inputs

    def parts(self) -> list[Part]:
        """List what would get smaller."""
        removal = self._remove({})
        parts = [
            Part(values)
            for values in _tied(removal.units)
            if any(not removal.kept[name].all() for name in values)
        ]
        return [*parts, *(Part(attention=path) for path in self._heads)]

    def apply_(self, model: nn.Module, kept: Mapping[Part, str]) -> list[Stuck]:
        """Make a model smaller, in place.

        Args:
            model: A copy of the one that was looked at, in any dtype.
            kept: Parts that are left as they are, and why.

        Returns:
            What is dead and still there.
        """
        removal = self._remove(kept)
        resize_(model, removal, self._owners.paths)
        stuck = find_stuck(removal)
        if self._select_inputs:
            unread = find_unread_inputs(removal.graph, self._owners.paths)
            stuck = [each for each in stuck if each.what != "inputs" or each.name not in unread]
            for path, read in unread.items():
                select_inputs_(model, path, read)
        for path, alive in self._heads.items():
            why = kept.get(Part(attention=path))
            if why is None:
                remove_heads_(model, path, alive)
            else:
                stuck.append(Stuck(path, "heads", int((~alive).sum()), why))
        return stuck

    def _remove(self, kept: Mapping[Part, str]) -> Removal:
        pinned = dict(self._owners.pinned)
        for part, why in kept.items():
            pinned.update(dict.fromkeys(part.values, why))
        return find_removal(self._analyzed, pinned)


def find_kept_whole(plan: Plan, trials: Trials) -> dict[Part, str]:
    """Find the parts without which a model would not run, or compute something else.

    Args:
        plan: What can be removed.
        trials: Of the model.

    Returns:
        The parts, and what goes wrong.
    """
    parts = plan.parts()
    free: list[Part] = []
    kept: dict[Part, str] = {}

    def add(more: Sequence[Part]) -> None:
        """Free as many of some parts as can be, by halves."""
        rest = {part: "" for part in parts if part not in free and part not in more}
        problem = trials.problem(functools.partial(plan.apply_, kept=rest))
        if not problem:
            free.extend(more)
        elif len(more) == 1:
            kept[more[0]] = problem
        else:
            add(more[: len(more) // 2])
            add(more[len(more) // 2 :])

    if parts:
        add(parts)
    return kept


def _tied(units: Units) -> list[frozenset[str]]:
    """Return the sets of values that are tied to each other, in the order of the graph."""
    sets = {name: {name} for name in units.axes}
    for output, ties in units.ties.items():
        for name, _, _ in ties:
            joined = sets[name] | sets[output]
            for each in joined:
                sets[each] = joined
    return list(dict.fromkeys(map(frozenset, sets.values())))
