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

from dwf_optim.factors import leave_one_out
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


def check_convertible(base: type[Optimizer], state: State, shape: torch.Size) -> None:
    """Refuse a state of which not every value is known.

    Args:
        base: The base's class.
        state: Its state for a weight.
        shape: The weight's.

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


def _rules(base: type[Optimizer]) -> dict[str, Rule]:
    return next((MOMENTS[cls.__name__] for cls in base.__mro__ if cls.__name__ in MOMENTS), {})


def has_stepped(state: State) -> bool:
    """Say whether a parameter's state is worth converting: Adagrad fills it when it is built."""
    return float(state["step"]) > 0 if "step" in state else bool(state)
