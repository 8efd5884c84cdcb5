"""Where each parameter stands in the optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

Group = dict[str, Any]


class Member(NamedTuple):
    """A parameter's place in the optimizer.

    Attributes:
        p: The parameter.
        position: Among all parameters of all groups, from 0.
        name: The user's, or its position in words.
    """

    p: Tensor
    position: int
    name: str


def member_of(group: Group, index: int, first: int) -> Member:
    """Return a parameter's place in the optimizer.

    Args:
        group: Its group.
        index: Its place there.
        first: Position of the group's first parameter among those of all groups.
    """
    names = group.get("param_names")
    position = first + index
    name = names[index] if names else f"parameter number {position}"
    return Member(group["params"][index], position, name)


def positions(groups: Sequence[Group]) -> Iterator[tuple[Group, int]]:
    """Go through the groups, each with the position of its first parameter among all."""
    first = 0
    for group in groups:
        yield group, first
        first += len(group["params"])


def members_by_group(groups: Sequence[Group]) -> Iterator[tuple[Group, list[Member]]]:
    """Go through the groups, each with its parameters."""
    for group, first in positions(groups):
        yield group, [member_of(group, index, first) for index in range(len(group["params"]))]


def find(groups: Sequence[Group], parameter: Tensor) -> tuple[Group, Member]:
    """Find a parameter and its group.

    Raises:
        ValueError: If no group holds it.
    """
    for group, members in members_by_group(groups):
        for member in members:
            if member.p is parameter:
                return group, member
    raise ValueError(
        f"the optimizer holds no such parameter (shape {tuple(parameter.shape)}); add it with "
        "add_param_group first"
    )
