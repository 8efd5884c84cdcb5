"""From a plain optimizer's state to the factors': how a running training is switched over.

With factors held still, their gradients are ``g_d = g * prod_{e != d} f_e``. So what a base accumulates
linearly in the gradient is multiplied by the product of the other factors, what it accumulates
quadratically by that product's square.

To support another base, add a line to `MOMENTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.factors import leave_one_out, product
from dwf_optim.gates import group_sum
from dwf_optim.state import State, is_per_tensor

# (value in the base's state, one factor, product of the others) -> value for that factor
Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def _linear(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return value.to(others.dtype) * others


def _quadratic(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return value.to(others.dtype) * others.square()


def _size(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return value.to(others.dtype) * others.abs()


def _sign(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return value.to(others.dtype) * others.sign()


def _same(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return value.to(others.dtype, copy=True)


def _restart(value: Tensor, factor: Tensor, others: Tensor) -> Tensor:
    return factor.clone()


_ADAM: dict[str, Rule] = {
    "exp_avg": _linear,
    "exp_avg_sq": _quadratic,
    "max_exp_avg_sq": _quadratic,
}

# What every elementwise state of a base is, by class name (subclasses count); values that a base keeps
# once per tensor are copied.
MOMENTS: dict[str, dict[str, Rule]] = {
    "SGD": {"momentum_buffer": _linear},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "NAdam": _ADAM,
    "RAdam": _ADAM,
    "Adamax": {"exp_avg": _linear, "exp_inf": _size},
    # RMSprop's buffer holds steps already divided by the gradient's size.
    "RMSprop": {"square_avg": _quadratic, "grad_avg": _linear, "momentum_buffer": _sign},
    "Adagrad": {"sum": _quadratic},
    # Step sizes in the parameter's own unit have no counterpart; these adapt by themselves.
    "Adadelta": {"square_avg": _quadratic, "acc_delta": _same},
    "Rprop": {"prev": _linear, "step_size": _same},
    # An average of the parameter starts anew.
    "ASGD": {"ax": _restart},
}


# What a gate keeps, by what each weight of its group would (with that weight's part of omega among the
# others, and given for the signs): its gradient is the sum of theirs.
Merge = Callable[[Tensor, Tensor, Tensor], Tensor]


def _sum(values: Tensor, others: Tensor, gate: Tensor) -> Tensor:
    return group_sum(values, gate)


def _square_of_sum(values: Tensor, others: Tensor, gate: Tensor) -> Tensor:
    # Squares do not tell how gradients agree; this is what they are at most together, so that the first
    # steps are too small rather than too large.
    return group_sum(values.sqrt(), gate).square_()


def _mean(values: Tensor, others: Tensor, gate: Tensor) -> Tensor:
    return group_sum(values, gate) * (gate.numel() / max(1, values.numel()))


def _weighted_mean(values: Tensor, others: Tensor, gate: Tensor) -> Tensor:
    sizes = others.abs()
    return group_sum(values * sizes, gate) / group_sum(sizes, gate).clamp_(min=1e-30)


def _own(values: Tensor, others: Tensor, gate: Tensor) -> Tensor:
    return values


# A base's rule that is not here cannot be converted to gates.
MERGES: dict[Rule, Merge] = {
    _linear: _sum,
    _quadratic: _square_of_sum,
    _size: _sum,
    _sign: _weighted_mean,
    _same: _mean,
    _restart: _own,
}


def check_convertible(
    base: type[Optimizer], state: State, shape: torch.Size, to_gates: bool = False
) -> None:
    """Refuse a state of which not every value is known.

    Args:
        base: The base's class.
        state: Its state for a weight.
        shape: The weight's.
        to_gates: Whether groups of weights share gates.

    Raises:
        ValueError: With the value's name.
    """
    rules = _rules(base)
    for key, value in state.items():
        if is_per_tensor(key) or not isinstance(value, Tensor) or value.ndim == 0 < len(shape):
            continue
        if key not in rules or value.shape != shape:
            raise ValueError(
                f"cannot convert {base.__name__}'s state {key!r} of shape {tuple(value.shape)} to "
                f"factors: known are {sorted(rules)}; start from the model's weights, or add the base "
                "to dwf_optim.convert.MOMENTS"
            )
        if to_gates and rules[key] not in MERGES:
            raise ValueError(
                f"cannot convert {base.__name__}'s state {key!r} to gates: what the weights of a group "
                "keep together is not known; start from the model's weights, or add its rule to "
                "dwf_optim.convert.MERGES"
            )


def convert_state(base: type[Optimizer], state: State, factors: Sequence[Tensor]) -> list[State]:
    """Turn what a base keeps for a weight into what it would keep for each factor.

    Args:
        base: The base's class.
        state: Its state for the weight, as `check_convertible` passes it; not changed.
        factors: ``D`` tensors of the weight's shape.

    Returns:
        One state per factor.
    """
    rules = _rules(base)
    others = leave_one_out(factors)
    converted: list[State] = [{} for _ in factors]
    for key, value in state.items():
        for target, factor, other in zip(converted, factors, others, strict=True):
            if isinstance(value, Tensor):
                target[key] = rules[key](value, factor, other) if key in rules else value.clone()
            else:
                target[key] = value
    return converted


def convert_to_gates(
    base: type[Optimizer], state: State, omega: Tensor, gates: Sequence[Tensor]
) -> list[State]:
    """Turn what a base keeps for a weight into what it would keep for the full factor and the gates.

    Args:
        base: The base's class.
        state: Its state for the weight, as `check_convertible` passes it; elementwise values in the
            shape of ``omega``; not changed.
        omega: The full factor, in the shape against which gates broadcast.
        gates: ``D - 1`` tensors.

    Returns:
        The full factor's state, and one for each gate.
    """
    rules = _rules(base)
    factors = [omega, *gates]
    others = [product(gates).expand_as(omega), *(omega * other for other in leave_one_out(gates))]
    converted: list[State] = [{} for _ in factors]
    for key, value in state.items():
        for index, target in enumerate(converted):
            if not isinstance(value, Tensor) or key not in rules:
                target[key] = value.clone() if isinstance(value, Tensor) else value
                continue
            rule = rules[key]
            target[key] = rule(value, factors[index], others[index])
            if index > 0:
                target[key] = MERGES[rule](target[key], others[index], gates[0])
    return converted


def _rules(base: type[Optimizer]) -> dict[str, Rule]:
    return next((MOMENTS[cls.__name__] for cls in base.__mro__ if cls.__name__ in MOMENTS), {})


def has_stepped(state: State) -> bool:
    """Say whether a parameter's state is worth converting: Adagrad fills it when it is built."""
    return float(state["step"]) > 0 if "step" in state else bool(state)
