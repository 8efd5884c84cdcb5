"""One step of one parameter group: from what the group says to what a backend needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.factorization import INITIAL_PENALTY, Factorization, base_options
from dwf_optim.init import common_spread
from dwf_optim.learning_rate import momentum_gain, warn_outside_window
from dwf_optim.members import Group, Member, member_of
from dwf_optim.sharding import cut, local, local_state, place_state, whole
from dwf_optim.state import State, get_base_states, put_base_states
from dwf_optim.step import native, plain
from dwf_optim.step.slot import Slot, StepOptions
from dwf_optim.store import FactorStore

Backend = Callable[[Engine, StepOptions, list[Slot]], dict[str, Any]]


@dataclass
class Plan:
    """What a group's step has to do, found out before any group is stepped.

    Attributes:
        group: The parameter group.
        factorization: Its options, validated.
        options: The base's.
        batch: What the extension steps; None where it is not asked or can step nothing of the group.
        factorized: Other parameters with a gradient and with factors.
        unfactorized: Those with a gradient and without factors, each with its penalty.
    """

    group: Group
    factorization: Factorization
    options: dict[str, Any]
    batch: native.Batch | None
    factorized: list[Member]
    unfactorized: list[tuple[Tensor, float]]

    def weights(self) -> list[Tensor]:
        """Return all that are stepped as factors."""
        batch = [] if self.batch is None else self.batch.table.weights
        return [*batch, *(member.p for member in self.factorized)]


def plan_group(
    engine: Engine, backend: str, states: dict[Tensor, State], group: Group, first: int
) -> Plan:
    """Sort the parameters of a group that have a gradient by how they are stepped.

    Thousands of small parameters make every line count that runs once for each, so those that the
    extension takes are not looked at from Python.

    Args:
        engine: The base optimizer.
        backend: Its name, or "auto".
        states: The optimizer's state.
        group: The parameter group.
        first: Position of its first parameter among those of all groups.

    Raises:
        TypeError: If a factorized or penalized parameter has a sparse gradient.
        ValueError: If ``backend`` is "native" and the extension cannot step a factorized parameter.
    """
    factorization = Factorization.from_group(group)
    options = base_options(group)
    params = group["params"]
    batch = None
    if backend in ("auto", "native"):
        batch = native.collect(engine, options, factorization, params, states, backend == "native")
    rest = [i for i, p in enumerate(params) if p.grad is not None] if batch is None else batch.table.rest
    factorized: list[Member] = []
    unfactorized: list[tuple[Tensor, float]] = []
    for index in rest:
        p = params[index]
        penalty = factorization.penalty_of(p.ndim)
        splits = factorization.factorizes(p.ndim)
        if splits or penalty > 0:
            member = member_of(group, index, first)
            _check_gradient(member)
        if splits:
            factorized.append(member)
        else:
            unfactorized.append((p, penalty))
    if backend == "native" and batch is not None:
        for p, _, name in factorized:
            native.require(batch, p, name, states.get(p, {}))
    return Plan(group, factorization, options, batch, factorized, unfactorized)


def _check_gradient(member: Member) -> None:
    if member.p.grad is not None and member.p.grad.layout != torch.strided:
        raise TypeError(
            f"{member.name} has a sparse gradient, which factors and penalty cannot "
            "take; make it dense (nn.Embedding(sparse=False)), or give its group depth=1 and "
            "penalty=0"
        )


def step_group(
    engine: Engine,
    backend: Backend,
    store: FactorStore,
    states: dict[Tensor, State],
    plan: Plan,
) -> None:
    """Step the parameters of a group that have a gradient; those that have none do not change.

    Args:
        engine: The base optimizer.
        backend: How factors are stepped that the extension does not step.
        store: Makes the factors.
        states: The optimizer's state, updated in place.
        plan: From `plan_group`; its group is updated in place.
    """
    factorized = bool(plan.weights())
    if factorized:
        _step_factors(engine, backend, store, states, plan)
    if plan.batch is not None:
        native.step_plain(plan.batch, plan.options)
    if plan.unfactorized or not factorized:
        # Without any gradient too: a base that counts its steps in the group counts this one.
        after = plain.step(engine, plan.options, plan.unfactorized, states)
        _keep_changes(plan.group, plan.options, after)


def _step_factors(
    engine: Engine,
    backend: Backend,
    store: FactorStore,
    states: dict[Tensor, State],
    plan: Plan,
) -> None:
    group, factorization, options = plan.group, plan.factorization, plan.options
    held = [store.state_of(states, m, factorization, group["steps"]) for m in plan.factorized]
    scale = _lr_scale(engine, plan)
    lr, penalty = float(options["lr"]), factorization.penalty
    step_options = StepOptions(
        base={**options, "lr": options["lr"] * scale, "weight_decay": 0.0},
        depth=factorization.depth,
        mode=factorization.mode,
        penalty=-penalty if options.get("maximize") else penalty,
        flush=factorization.flush == "dead",
        write=lr != 0,
    )
    if plan.batch is not None and plan.batch.table.weights:
        native.step(plan.batch, step_options, states, store)
    if plan.factorized:
        after = _step_slots(engine, backend, step_options, plan.factorized, held)
        for member, state in zip(plan.factorized, held, strict=True):
            store.note_write(member.p, factorization.mode.kept(state, factorization.depth))
        _keep_changes(group, step_options.base, after)
    travelled = lr * scale * momentum_gain(options)
    group["lr_sum"] += travelled
    group["penalty_sum"] += travelled * penalty
    group["steps"] += 1


def _step_slots(
    engine: Engine,
    backend: Backend,
    options: StepOptions,
    members: Sequence[Member],
    states: Sequence[State],
) -> dict[str, Any]:
    mode, depth = options.mode, options.depth
    parts = mode.parts(depth)
    views = [get_base_states(state, parts) for state in states]
    slots = [
        Slot(
            weight=local(p),
            grad=cut(p.grad, p),
            kept=[local(tensor) for tensor in mode.kept(state, depth)],
            states=[local_state(view) for view in held],
        )
        for (p, *_), state, held in zip(members, states, views, strict=True)
        if p.grad is not None
    ]
    after = backend(engine, options, slots)
    for (p, *_), state, slot, held in zip(members, states, slots, views, strict=True):
        likes = mode.kept(state, depth) or [p]
        placed = [place_state(*pair) for pair in zip(slot.states, held, likes, strict=True)]
        put_base_states(state, parts, placed)
    return after


def _lr_scale(engine: Engine, plan: Plan) -> float:
    """Return the group's factor-space rate over lr; an automatic one is fixed at the first step."""
    group, factorization = plan.group, plan.factorization
    if factorization.lr_scale != "auto":
        return factorization.lr_scale
    if group["resolved_lr_scale"] is None:
        # A penalty's decay goes at the same scale, and a smaller one would stop it short of zero.
        capped = factorization.penalty == 0 and not group.get(INITIAL_PENALTY)
        typical = common_spread([whole(p) for p in plan.weights()]) if capped else 0.0
        mode = factorization.mode
        group["resolved_lr_scale"] = mode.lr_scale(factorization.depth, engine.kind, typical)
        if mode.by_element:  # for which the window was measured
            warn_outside_window(group, engine.kind)
    return float(group["resolved_lr_scale"])


def _keep_changes(group: Group, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Keep in a group what the base changed in its own, such as a counter."""
    for key, value in after.items():
        if value is not before.get(key):
            group[key] = value
