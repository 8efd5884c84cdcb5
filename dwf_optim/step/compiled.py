"""SGD, Adam and AdamW by `torch.compile`: the whole step of many separate tensors as one function.

What is compiled is the mathematics below, never a base's ``step()``. Learning rate, momentum, betas and
step counts are tensors for it, so that no schedule compiles it anew. It is compiled once for each rule,
depth and list of shapes, at the first step that needs it, which takes seconds to minutes: the price of
one pass over memory on devices that the extension does not serve. All else goes to `blocked`, as does
the first step of each weight, which makes the base's state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.factors import leave_one_out, product
from dwf_optim.step import blocked
from dwf_optim.step.native_rules import TYPES, Rule, rule_of
from dwf_optim.step.slot import Slot, StepOptions
from dwf_optim.storage import STORAGES

_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class _Structure:
    """What a compiled step is made for; everything else are its inputs.

    Attributes:
        rule: Name of how the base moves a factor.
        depth: ``D``.
        nesterov: The base's option.
        maximize: The base's option.
        penalized: Whether there is a penalty.
        flush: Whether weights killed by underflow become exact zeros.
        device: Of all tensors.
        dtype: Of the factors.
        threads: On a CPU, which are compiled in.
        layouts: Of all tensors: shape, strides and dtype.
    """

    rule: str
    depth: int
    nesterov: bool
    maximize: bool
    penalized: bool
    flush: bool
    device: torch.device
    dtype: torch.dtype
    threads: int
    layouts: tuple[Any, ...]


def step(engine: Engine, options: StepOptions, slots: list[Slot]) -> dict[str, Any]:
    """Take one step of the base on the factors of every slot, compiled.

    Args:
        engine: The base optimizer.
        options: What the slots share.
        slots: The weights; factors, states and weights are updated in place.

    Returns:
        The base's group options after the step.

    Raises:
        RuntimeError: If torch cannot compile on this machine.
    """
    # At rate 0 only base state moves: a warm-up's first step is not worth a compilation of its own.
    if options.mode is not STORAGES["full"] or not options.write:
        return blocked.step(engine, options, slots)
    rule = rule_of(engine, options.base, options.mode, options.flush)
    if isinstance(rule, str):
        return blocked.step(engine, options, slots)
    batches: dict[tuple[torch.device, torch.dtype], list[Slot]] = {}
    rest = []
    for slot in slots:
        if _is_ready(slot, rule):
            batches.setdefault((slot.weight.device, slot.kept[0].dtype), []).append(slot)
        else:
            rest.append(slot)
    for batch in batches.values():
        _step_batch(rule, options, batch)
    return blocked.step(engine, options, rest) if rest else options.base


def _is_ready(slot: Slot, rule: Rule) -> bool:
    """Say whether a slot is made of plain tensors on one device, with all that the base keeps."""
    keys = {*rule.moments, "step"} if rule.counts else {*rule.moments}
    if any(state.keys() != keys for state in slot.states):
        return False
    moments = [state[key] for state in slot.states for key in rule.moments]
    tensors = [slot.weight, slot.grad, *slot.kept, *moments]
    device, dtype = slot.weight.device, slot.kept[0].dtype
    return (
        device.type in _DEVICES
        and slot.weight.numel() > 0
        and all(type(tensor) in TYPES and tensor.device == device for tensor in tensors)
        and all(tensor.dtype == dtype for tensor in [*slot.kept, *moments])
    )


def _step_batch(rule: Rule, options: StepOptions, slots: list[Slot]) -> None:
    weights = [_input(slot.weight) for slot in slots]
    grads = [_input(slot.grad) for slot in slots]
    factors = [[_input(tensor) for tensor in slot.kept] for slot in slots]
    moments = [[[_input(state[k]) for k in rule.moments] for state in slot.states] for slot in slots]
    base = options.base
    flat = [*weights, *grads, *(t for some in factors for t in some)]
    flat += [t for slot in moments for some in slot for t in some]
    structure = _Structure(
        rule=rule.name,
        depth=options.depth,
        nesterov=bool(base.get("nesterov")),
        maximize=bool(base["maximize"]),
        penalized=options.penalty != 0,
        flush=options.flush,
        device=weights[0].device,
        dtype=factors[0][0].dtype,
        threads=torch.get_num_threads() if weights[0].device.type == "cpu" else 0,
        layouts=tuple((t.shape, t.stride(), t.dtype) for t in flat),
    )
    numbers = _numbers(rule, options)
    if rule.counts:
        for slot in slots:
            for state in slot.states:
                numbers += _corrections(float(state["step"]) + 1, base)
    scalars = torch.tensor(numbers, dtype=structure.dtype, device=structure.device)
    try:
        _compiled(structure)(weights, grads, factors, moments, scalars)
    except Exception as error:
        raise RuntimeError(
            f"backend='compiled' could not compile the step for {structure.device}: {error}. On the CPU "
            "torch.compile needs a C++ compiler (CXX): install one, or use backend='auto'"
        ) from error
    torch.autograd.graph.increment_version(weights)
    if rule.counts:
        torch._foreach_add_([state["step"] for slot in slots for state in slot.states], 1)


def _input(tensor: Tensor) -> Tensor:
    """View the same memory without autograd, in at least one dimension.

    Torch 2.13 miscompiles what changes 0-d tensors on the CPU: they are written before they are read.
    """
    tensor = tensor.detach()
    return tensor.view(1) if tensor.ndim == 0 else tensor


def _numbers(rule: Rule, options: StepOptions) -> list[float]:
    """Return what the rule's function takes from the options; differences here are in float64."""
    base = options.base
    decay = 2 * options.penalty / options.depth
    if not rule.counts:
        momentum, dampening = float(base["momentum"]), float(base["dampening"])
        return [decay, float(base["lr"]), momentum, 1 - dampening]
    beta1, beta2 = (float(beta) for beta in base["betas"])
    return [decay, 1 - beta1, beta2, 1 - beta2, float(base["eps"])]


def _corrections(count: float, base: dict[str, Any]) -> tuple[float, float]:
    """Return Adam's step size, and the root by which its second moment is too small."""
    beta1, beta2 = (float(beta) for beta in base["betas"])
    return float(base["lr"]) / (1 - beta1**count), float((1 - beta2**count) ** 0.5)


@functools.lru_cache(maxsize=64)
def _compiled(structure: _Structure) -> Callable[..., None]:
    def run(
        weights: list[Tensor],
        grads: list[Tensor],
        factors: list[list[Tensor]],
        moments: list[list[list[Tensor]]],
        scalars: Tensor,
    ) -> None:
        _run(structure, weights, grads, factors, moments, scalars)

    # Dynamo counts compilations by code object, and gives up after a few; so each gets its own.
    own = FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


def _run(
    structure: _Structure,
    weights: list[Tensor],
    grads: list[Tensor],
    factors: list[list[Tensor]],
    moments: list[list[list[Tensor]]],
    scalars: Tensor,
) -> None:
    """Step all weights; what `torch.compile` sees, unrolled."""
    depth = structure.depth
    adam = structure.rule in ("ADAM", "AMSGRAD")
    shared = 5 if adam else 4
    move = _move_adam if adam else _move_sgd
    for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
        gradients = leave_one_out(factors[i], start=grad)
        stepped, states = [], []
        for d, gradient in enumerate(gradients):
            if structure.penalized:
                gradient = gradient + scalars[0] * factors[i][d]
            if structure.maximize:
                gradient = -gradient
            begin = shared + 2 * (i * depth + d)
            factor, state = move(
                structure, factors[i][d], gradient, moments[i][d], scalars, scalars[begin : begin + 2]
            )
            stepped.append(factor)
            states.append(state)
        if structure.flush:
            bound = torch.finfo(structure.dtype).tiny ** (1 / depth)
            dead = stepped[0].abs() < bound
            for factor in stepped[1:]:
                dead = dead & (factor.abs() < bound)
            stepped = [factor.masked_fill(dead, 0) for factor in stepped]
            states = [[moment.masked_fill(dead, 0) for moment in state] for state in states]
        for d in range(depth):
            factors[i][d].copy_(stepped[d])
            for moment, value in zip(moments[i][d], states[d], strict=True):
                moment.copy_(value)
        weight.copy_(product(stepped))


def _move_sgd(
    structure: _Structure,
    factor: Tensor,
    gradient: Tensor,
    moments: list[Tensor],
    scalars: Tensor,
    _: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    lr, momentum, undamped = scalars[1], scalars[2], scalars[3]
    if not moments:
        return factor - lr * gradient, []
    average = momentum * moments[0] + undamped * gradient
    step = gradient + momentum * average if structure.nesterov else average
    return factor - lr * step, [average]


def _move_adam(
    structure: _Structure,
    factor: Tensor,
    gradient: Tensor,
    moments: list[Tensor],
    scalars: Tensor,
    corrections: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    mean, square = moments[:2]
    mean = mean + scalars[1] * (gradient - mean)
    square = scalars[2] * square + scalars[3] * gradient * gradient
    after = [mean, square]
    if structure.rule == "AMSGRAD":
        after.append(torch.maximum(moments[2], square))
    denominator = after[-1].sqrt() / corrections[1] + scalars[4]
    return factor - corrections[0] * mean / denominator, after
