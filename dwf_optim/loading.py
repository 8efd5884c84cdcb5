"""What a loaded checkpoint, or a plain optimizer that is switched over, has to become here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.base import Engine, constructor_default, constructor_options
from dwf_optim.convert import has_stepped
from dwf_optim.factorization import OWN_KEYS, Factorization, base_options
from dwf_optim.members import Group, Member, members_by_group
from dwf_optim.sharding import local, local_state, place_state
from dwf_optim.state import Part, State, get_base_states, put_base_states
from dwf_optim.store import FactorStore


def plain_options(optimizer: Optimizer) -> tuple[list[Group], dict[str, Any]]:
    """Return the groups of a built plain optimizer and its constructor options, ready for another.

    Args:
        optimizer: Not changed.
    """
    cls = type(optimizer)
    defaults = constructor_options(cls, optimizer.defaults)
    groups = [dict(group) for group in optimizer.param_groups]
    if "weight_decay" in defaults and defaults["weight_decay"] == constructor_default(
        cls, "weight_decay"
    ):
        # What nobody asked for is no reason for a warning: AdamW's default.
        usual = defaults.pop("weight_decay")
        for group in groups:
            if group["weight_decay"] == usual:
                del group["weight_decay"]
    for group in groups:
        if names := group.pop("param_names", None):
            group["params"] = list(zip(names, group["params"], strict=True))
    return groups, defaults


@torch.no_grad()
def converted(
    engine: Engine,
    store: FactorStore,
    groups: Sequence[Group],
    plain: Mapping[Tensor, State],
) -> dict[Tensor, State]:
    """Turn a plain base's state into that of a `DWFOptimizer`.

    Args:
        engine: The base.
        store: Makes the factors.
        groups: Its groups.
        plain: The base's state by parameter; not changed.

    Returns:
        The new state of all parameters that the base has stepped.

    Raises:
        ValueError: If a value in it cannot be converted (`dwf_optim.convert`); nothing is made then.
    """
    todo: list[tuple[Member, Factorization]] = []
    for group, members in members_by_group(groups):
        factorization = Factorization.from_group(group)
        stepped = (m for m in members if m.p in plain and has_stepped(plain[m.p]))
        todo += [(member, factorization) for member in stepped]
    for (p, *_), factorization in todo:
        if factorization.factorizes(p.ndim):
            factorization.mode.check_convertible(engine.base, plain[p], p.shape)
    new: dict[Tensor, State] = {}
    for member, factorization in todo:
        p = member.p
        if not factorization.factorizes(p.ndim):
            new[p] = deepcopy(plain[p])
            continue
        store.state_of(new, member, factorization)
        mode, depth = factorization.mode, factorization.depth
        factors = [local(f) for f in factorization.factors(p, new[p])]
        views = mode.convert(engine.base, local_state(plain[p]), factors)
        likes = mode.kept(new[p], depth) or [p]
        placed = [place_state(view, {}, like) for view, like in zip(views, likes, strict=True)]
        put_base_states(new[p], mode.parts(depth), placed)
    return new


def check_plain(engine: Engine, groups: Sequence[Group]) -> None:
    """Refuse a checkpoint that is not of the plain base.

    Args:
        engine: The base.
        groups: The checkpoint's, without what a `DWFOptimizer` writes.

    Raises:
        ValueError: With what is missing.
    """
    expected = engine.defaults.keys()
    for saved in groups:
        if missing := sorted(expected - saved.keys() - {"differentiable"}):
            raise ValueError(
                f"neither a checkpoint of DWFOptimizer nor of its base {engine.base.__name__}: a "
                f"group lacks {missing}; load it into the optimizer it was saved from"
            )


def upgrade(engine: Engine, states: Mapping[Tensor, State], groups: Sequence[Group]) -> None:
    """Let the base bring what was loaded to its present form, such as step counts to tensors.

    Args:
        engine: The base.
        states: The optimizer's state, updated in place.
        groups: Its groups.
    """
    for group, members in members_by_group(groups):
        factorization = Factorization.from_group(group)
        mode, depth = factorization.mode, factorization.depth
        tensors: list[Tensor] = []
        filled: list[State] = []
        split: list[tuple[State, Sequence[Part], list[State]]] = []
        for p, *_ in members:
            state = states.get(p, {})
            if factorization.factorizes(p.ndim) and mode.is_in(state, depth):
                views = get_base_states(state, mode.parts(depth))
                split.append((state, mode.parts(depth), views))
                tensors += mode.kept(state, depth) or [p]
                filled += views
            else:
                tensors.append(p)
                filled.append(state)
        pairs = [(t, s) for t, s in zip(tensors, filled, strict=True) if s]
        engine.upgrade(base_options(group), [t for t, _ in pairs], [s for _, s in pairs])
        for state, parts, views in split:
            put_base_states(state, parts, views)


def complete(groups: Sequence[Group], defaults: Mapping[str, Any], engine: Engine) -> None:
    """Give groups the options that a checkpoint of an older version lacks.

    Args:
        groups: The optimizer's, updated in place.
        defaults: The optimizer's. Torch adds keys of its own to them, which are no options of the base.
        engine: The base.
    """
    known = {k: v for k, v in defaults.items() if k in OWN_KEYS or k in engine.defaults}
    for group in groups:
        for key, value in known.items():
            group.setdefault(key, value)
