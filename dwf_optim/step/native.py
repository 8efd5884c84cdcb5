"""SGD, Adam and AdamW on the CPU in one pass over memory, by the compiled extension.

A step reads gradient, factors, base state and weight once, and writes what changed. `collect` finds the
weights that the extension can step as they are; `step_slots` copies where that helps. All others, and
the first step of each, which makes the base's state, are left to `blocked`. Small tensors without
factors go along where that is the base's step to the bit (`native_plain`).

Weights that share gates are stepped by whole groups (`native_groups`).

The extension compares every weight with its factors as it goes, so that no write from outside is missed.
Where they differ it stops; `step` lets the factors follow and then steps the rest.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.factorization import Factorization
from dwf_optim.outside_writes import take_over
from dwf_optim.state import State, put_base_states
from dwf_optim.step import blocked, native_groups, native_plain
from dwf_optim.step.native_reader import reader
from dwf_optim.step.native_rules import Keys, flushes_denormals, rule_of, why_not
from dwf_optim.step.slot import Slot, StepOptions
from dwf_optim.storage import Storage
from dwf_optim.store import FactorStore

if TYPE_CHECKING:
    from dwf_optim._native import Table

try:
    from dwf_optim import _native
except ImportError:  # installed without a compiler
    _native = None  # type: ignore[assignment]

# Which of the compiled kernels to use, by name; empty for the widest that this machine has.
INSTRUCTION_SET = ""
_TINY = torch.finfo(torch.float32).tiny
# Whether weights are compared with their factors first; benchmarks turn it off to see what it costs.
COMPARE = True


@dataclass(frozen=True)
class Batch:
    """The weights of a group that the extension can step now.

    Attributes:
        rule: Name of the extension's rule for their base.
        mode: The way their factors are kept.
        keys: Of their states.
        table: Where their tensors lie, and those of small tensors without factors; ``rest`` has the
            places of all other parameters with a gradient.
    """

    rule: str
    mode: Storage
    keys: Keys
    table: Table


def require_built() -> None:
    """Refuse to go on without the extension.

    Raises:
        ValueError: If this installation has none.
    """
    if _native is None:
        raise ValueError(
            "backend='native' needs the compiled extension, which this installation lacks: reinstall "
            "dwf-optim where there is a C++ compiler, or use backend='auto'"
        )


def collect(
    engine: Engine,
    options: dict[str, Any],
    factorization: Factorization,
    params: list[Tensor],
    states: dict[Tensor, State],
    required: bool,
) -> Batch | None:
    """Find the parameters of a group that the extension can step now.

    Args:
        engine: The base.
        options: Its group options.
        factorization: The group's.
        params: The group's parameters.
        states: The optimizer's state.
        required: Whether to refuse a base that it cannot step.

    Returns:
        Those that have a gradient, a complete state, and dense tensors in one order on the CPU. None if
        it can step none of this group, whatever the tensors.

    Raises:
        ValueError: If it is required and does not know the base.
    """
    # At rate 0 nothing but base state may be written, which is for `blocked`.
    if factorization.depth == 1 or float(options["lr"]) == 0:
        return None
    rule = rule_of(engine, options, factorization.mode, factorization.flush == "dead")
    if isinstance(rule, str):
        if required:
            raise ValueError(f"backend='native' cannot step this group: {rule}; use backend='auto'")
        return None
    if _native is None:
        _say_that_it_is_missing()
        return None
    keys = Keys.of(rule, factorization.mode, factorization.depth)
    table = reader().collect(
        params,
        states,
        keys.kept,
        keys.moments,
        keys.counts,
        factorization.min_ndim,
        native_plain.keys(rule, options),
        native_groups.split_of(factorization.mode),
    )
    return Batch(rule.name, factorization.mode, keys, table)


def require(batch: Batch, p: Tensor, name: str, state: State) -> None:
    """Refuse a parameter that the extension will not step.

    Args:
        batch: Of its group.
        p: A factorized parameter with a gradient that is not in the batch.
        name: What to call it.
        state: Its state; empty before the first step.

    Raises:
        ValueError: With the reason, unless it is that the first step has to make the state.
    """
    reason = why_not(p, state, batch.keys) or native_groups.why_not(batch.mode, p.shape)
    if reason is not None:
        raise ValueError(f"backend='native' cannot step {name}: {reason}; use backend='auto'")


def step(batch: Batch, options: StepOptions, states: dict[Tensor, State], store: FactorStore) -> None:
    """Step a batch.

    Args:
        batch: From `collect`, in the same step.
        options: What its weights share.
        states: The optimizer's state.
        store: Knows whether somebody edited factors.
    """
    native = _options(batch, options)
    mode, depth, table = options.mode, options.depth, batch.table
    weights = table.weights
    threads = torch.get_num_threads()
    left = table.step(native, threads, INSTRUCTION_SET, compare=COMPARE)
    written = list(dict.fromkeys(slot for slot, _, _ in left))
    for index in written:
        p = weights[index]
        ranges = [(begin, end) for slot, begin, end in left if slot == index]
        if not store.factors_edited(p, mode.kept(states[p], depth)):
            _follow(p, states[p], ranges, batch, options)
        parts = [(index, begin, end) for begin, end in ranges]
        table.step(native, threads, INSTRUCTION_SET, compare=False, ranges=parts)
    torch.autograd.graph.increment_version(weights)
    for p in (weights[index] for index in written):
        store.note_write(p, mode.kept(states[p], depth))


def step_plain(batch: Batch, options: dict[str, Any]) -> None:
    """Step a batch's tensors without factors.

    Args:
        batch: From `collect`, in the same step.
        options: The base's group options.
    """
    if weights := batch.table.plain_weights:
        batch.table.step_plain(options)
        torch.autograd.graph.increment_version(weights)


def step_slots(engine: Engine, options: StepOptions, slots: list[Slot]) -> dict[str, Any]:
    """Step what is not in a batch: parts of sharded weights, and tensors in different orders in memory.

    Args:
        engine: The base optimizer.
        options: What the slots share.
        slots: The weights; factors, states and weights are updated in place. They agree already.

    Returns:
        The base's group options after the step.
    """
    rule = rule_of(engine, options.base, options.mode, options.flush)
    if _native is None or isinstance(rule, str) or not options.write:
        return blocked.step(engine, options, slots)
    keys = Keys.of(rule, options.mode, options.depth)
    pairs = [_in_one_order(slot, keys, options) for slot in slots]
    states = {weight: state for weight, state in pairs}
    split = native_groups.split_of(options.mode)
    table = reader().collect(list(states), states, keys.kept, keys.moments, keys.counts, 0, split=split)
    _step_table(Batch(rule.name, options.mode, keys, table), options)
    for index in table.members:
        slot, (weight, state) = slots[index], pairs[index]
        originals = _flatten(slot, keys, options)
        _write_back(slot.weight, weight)
        for key, value in state.items():
            _write_back(originals[key], value)
    if not table.rest:
        return options.base
    return blocked.step(engine, options, [slots[index] for index in table.rest])


def _step_table(batch: Batch, options: StepOptions) -> None:
    native = _options(batch, options)
    batch.table.step(native, torch.get_num_threads(), INSTRUCTION_SET, compare=False)
    torch.autograd.graph.increment_version(batch.table.weights)


def _flatten(slot: Slot, keys: Keys, options: StepOptions) -> State:
    state: State = dict(zip(keys.kept, slot.kept, strict=True))
    put_base_states(state, options.mode.parts(options.depth), slot.states)
    return state


def _in_one_order(slot: Slot, keys: Keys, options: StepOptions) -> tuple[Tensor, State]:
    """Return a slot's weight, with its gradient, and state; copies where they are not contiguous."""
    weight = slot.weight.detach().contiguous()
    weight.grad = slot.grad.detach().contiguous()
    state = _flatten(slot, keys, options)
    return weight, {k: v.contiguous() if isinstance(v, Tensor) else v for k, v in state.items()}


def _write_back(original: object, value: object) -> None:
    if not (isinstance(original, Tensor) and isinstance(value, Tensor)):
        return
    if original.data_ptr() != value.data_ptr():
        original.copy_(value)


def _options(batch: Batch, options: StepOptions) -> _native.Options:
    return _native.Options.make(
        rule=_native.Rule[batch.rule],
        storage=_native.Storage[native_groups.kernel_of(options.mode)],
        depth=options.depth,
        lr=float(options.base["lr"]),
        penalty=options.penalty,
        weigh_by_size=native_groups.weighs_by_size(options.mode),
        dead=_TINY ** (1 / options.depth) if options.flush else 0.0,
        flush=flushes_denormals(options.base, options.flush),
        base=options.base,
    )


def _follow(
    p: Tensor, state: State, ranges: Sequence[tuple[int, int]], batch: Batch, options: StepOptions
) -> None:
    """Let the factors follow a weight that was written, in some ranges of its memory or groups."""
    if not options.mode.by_element:
        # What has been stepped already agrees with its factors.
        take_over(p, state, options.mode, options.depth)
        return
    tensors = {key: _flat(state[key]) for key in batch.keys.elementwise}
    for begin, end in ranges:
        part = {key: tensor[begin:end] for key, tensor in tensors.items()}
        take_over(_flat(p)[begin:end], part, options.mode, options.depth)


def _flat(tensor: Tensor) -> Tensor:
    """View a dense tensor in the order of its memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


@functools.cache
def _say_that_it_is_missing() -> None:
    logging.getLogger("dwf_optim").warning(
        "the compiled extension is not installed: steps on the CPU go through torch, which takes "
        "longer. Reinstall dwf-optim where there is a C++ compiler."
    )
