"""One step of one parameter group: from what the group says to what a backend needs."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.factorization import Factorization, base_options
from dwf_optim.learning_rate import auto_lr_scale, momentum_gain, warn_outside_window
from dwf_optim.sharding import cut, local, local_state, place_state
from dwf_optim.state import State, get_base_states, get_factors, put_base_states
from dwf_optim.step import plain
from dwf_optim.step.slot import Slot, StepOptions
from dwf_optim.store import FactorStore, Member

Backend = Callable[[Engine, StepOptions, list[Slot]], dict[str, Any]]
Group = dict[str, Any]


def check_gradients(group: Group, members: Sequence[Member]) -> None:
    """Refuse gradients that cannot be stepped, before anything is.

    Args:
        group: A parameter group.
        members: Its parameters.

    Raises:
        TypeError: If a factorized or penalized parameter has a sparse gradient.
    """
    sparse = [m for m in members if m.p.grad is not None and m.p.grad.layout != torch.strided]
    if not sparse:
        return
    factorization = Factorization.from_group(group)
    for p, _, name in sparse:
        if factorization.factorizes(p.ndim) or factorization.penalty_of(p.ndim) > 0:
            raise TypeError(
                f"{name} has a sparse gradient, which factors and penalty cannot "
                "take; make it dense (nn.Embedding(sparse=False)), or give its group depth=1 and "
                "penalty=0"
            )


def step_group(
    engine: Engine,
    backend: Backend,
    store: FactorStore,
    states: MutableMapping[Tensor, State],
    group: Group,
    members: Sequence[Member],
) -> None:
    """Step the parameters of a group that have a gradient; those that have none do not change.

    Args:
        engine: The base optimizer.
        backend: How factors are stepped.
        store: Makes the factors.
        states: The optimizer's state, updated in place.
        group: The parameter group, updated in place.
        members: Its parameters.
    """
    factorization = Factorization.from_group(group)
    options = base_options(group)
    live = [member for member in members if member.p.grad is not None]
    factorized = [member for member in live if factorization.factorizes(member.p.ndim)]
    unfactorized = [
        (p, factorization.penalty_of(p.ndim)) for p, *_ in live if not factorization.factorizes(p.ndim)
    ]
    if factorized:
        held = [store.state_of(states, m, factorization, group["steps"]) for m in factorized]
        _step_factors(engine, backend, group, factorization, options, factorized, held)
        for member, state in zip(factorized, held, strict=True):
            store.note_write(member.p, get_factors(state, factorization.depth))
    if unfactorized or not live:
        # Without any gradient too: a base that counts its steps in the group counts this one.
        _keep_changes(group, options, plain.step(engine, options, unfactorized, states))


def _step_factors(
    engine: Engine,
    backend: Backend,
    group: Group,
    factorization: Factorization,
    options: dict[str, Any],
    members: Sequence[Member],
    states: Sequence[State],
) -> None:
    depth, penalty = factorization.depth, factorization.penalty
    views = [get_base_states(state, depth) for state in states]
    slots = [
        Slot(
            weight=local(p),
            grad=cut(p.grad, p),
            factors=[local(factor) for factor in get_factors(state, depth)],
            states=[local_state(view) for view in held],
        )
        for (p, *_), state, held in zip(members, states, views, strict=True)
        if p.grad is not None
    ]
    scale = _lr_scale(engine, group, factorization)
    lr = float(options["lr"])
    step_options = StepOptions(
        base={**options, "lr": options["lr"] * scale, "weight_decay": 0.0},
        penalty=-penalty if options.get("maximize") else penalty,
        flush=factorization.flush == "dead",
        write=lr != 0,
    )
    after = backend(engine, step_options, slots)
    for (p, *_), state, slot, held in zip(members, states, slots, views, strict=True):
        placed = [place_state(new, old, p) for new, old in zip(slot.states, held, strict=True)]
        put_base_states(state, placed)
    _keep_changes(group, step_options.base, after)
    travelled = lr * scale * momentum_gain(options)
    group["lr_sum"] += travelled
    group["penalty_sum"] += travelled * penalty
    group["steps"] += 1


def _lr_scale(engine: Engine, group: Group, factorization: Factorization) -> float:
    """Return the group's factor-space rate over lr; an automatic one is fixed at the first step."""
    if factorization.lr_scale != "auto":
        return factorization.lr_scale
    if group["resolved_lr_scale"] is None:
        group["resolved_lr_scale"] = auto_lr_scale(factorization.depth, engine.kind)
        warn_outside_window(group, engine.kind)
    return float(group["resolved_lr_scale"])


def _keep_changes(group: Group, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Keep in a group what the base changed in its own, such as a counter."""
    for key, value in after.items():
        if value is not before.get(key):
            group[key] = value
