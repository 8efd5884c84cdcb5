"""SGD, Adam and AdamW on the CPU in one pass over memory, by the compiled extension.

A step reads gradient, factors, base state and weight once, and writes what changed. `collect` finds the
weights that the extension can step. All others, and the first step of each, which makes the base's
state, are left to `blocked`.

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
from torch.optim import Optimizer

from dwf_optim.factorization import Factorization
from dwf_optim.outside_writes import take_over
from dwf_optim.state import State, get_factors
from dwf_optim.step.native_rules import DTYPES, TYPES, Keys, rule_of, why_not
from dwf_optim.step.slot import StepOptions
from dwf_optim.store import FactorStore

if TYPE_CHECKING:
    from dwf_optim._native import Reader, Table

try:
    from dwf_optim import _native
except ImportError:  # installed without a compiler
    _native = None  # type: ignore[assignment]

# Which of the compiled kernels to use, by name; empty for the widest that this machine has.
INSTRUCTION_SET = ""

# Second moments below FLT_MIN count as zero. Their root, 1e-19, is less than a rounding of Adam's
# denominator if eps is above sqrt(FLT_MIN) / (float32 eps / 2) = 1.8e-12; with a smaller one the kernel
# keeps denormals.
_LEAST_EPS = 1.9e-12


@dataclass(frozen=True)
class Batch:
    """The weights of a group that the extension can step now.

    Attributes:
        rule: Name of the extension's rule for their base.
        depth: ``D``.
        keys: Of their states.
        table: Where their tensors lie; ``rest`` has the places of all other parameters with a gradient.
    """

    rule: str
    depth: int
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
    base: type[Optimizer],
    options: dict[str, Any],
    factorization: Factorization,
    params: list[Tensor],
    states: dict[Tensor, State],
    required: bool,
) -> Batch | None:
    """Find the parameters of a group that the extension can step now.

    Args:
        base: The base's class.
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
    rule = rule_of(base, options)
    if isinstance(rule, str):
        if required:
            raise ValueError(f"backend='native' cannot step this group: {rule}; use backend='auto'")
        return None
    if _native is None:
        _say_that_it_is_missing()
        return None
    keys = Keys.of(rule, factorization.depth)
    table = _reader().collect(
        params, states, keys.factors, keys.moments, keys.counts, factorization.min_ndim
    )
    return Batch(rule.name, factorization.depth, keys, table)


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
    reason = why_not(p, state, batch.keys)
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
    depth, table = batch.depth, batch.table
    weights = table.weights
    threads = torch.get_num_threads()
    left = table.step(native, threads, INSTRUCTION_SET)
    written = list(dict.fromkeys(slot for slot, _, _ in left))
    for index in written:
        p = weights[index]
        ranges = [(begin, end) for slot, begin, end in left if slot == index]
        if not store.factors_edited(p, get_factors(states[p], depth)):
            _follow(p, states[p], ranges, batch)
        table.step(native, threads, INSTRUCTION_SET, [(index, begin, end) for begin, end in ranges])
    torch.autograd.graph.increment_version(weights)
    for p in (weights[index] for index in written):
        store.note_write(p, get_factors(states[p], depth))


def _options(batch: Batch, options: StepOptions) -> _native.Options:
    base = options.base
    beta1, beta2 = base.get("betas", (0.0, 0.0))
    eps = float(base.get("eps", 1.0))
    return _native.Options.make(
        rule=getattr(_native.Rule, batch.rule),
        depth=batch.depth,
        lr=float(base["lr"]),
        penalty=options.penalty,
        dead=torch.finfo(torch.float32).tiny ** (1 / batch.depth) if options.flush else 0.0,
        flush=options.flush and eps >= _LEAST_EPS,
        maximize=bool(base["maximize"]),
        momentum=float(base.get("momentum", 0.0)),
        dampening=float(base.get("dampening", 0.0)),
        nesterov=bool(base.get("nesterov", False)),
        beta1=float(beta1),
        beta2=float(beta2),
        eps=eps,
    )


def _follow(p: Tensor, state: State, ranges: Sequence[tuple[int, int]], batch: Batch) -> None:
    """Let the factors follow a weight that was written, in some ranges of its memory."""
    tensors = {key: _flat(state[key]) for key in batch.keys.elementwise}
    for begin, end in ranges:
        part = {key: tensor[begin:end] for key, tensor in tensors.items()}
        take_over(_flat(p)[begin:end], part, batch.depth)


def _flat(tensor: Tensor) -> Tensor:
    """View a dense tensor in the order of its memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


@functools.cache
def _reader() -> Reader:
    # Newer versions of torch describe tensors by a C function; of older ones, attributes are read.
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    return _native.Reader(TYPES, DTYPES, torch.strided, exchange)


@functools.cache
def _say_that_it_is_missing() -> None:
    logging.getLogger("dwf_optim").warning(
        "the compiled extension is not installed: steps on the CPU go through torch, which takes "
        "longer. Reinstall dwf-optim where there is a C++ compiler."
    )
