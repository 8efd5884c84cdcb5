"""Operators of torch by name, and their arguments as plain values: what a `TorchOp` is made of.

Dtypes, layouts, memory formats and devices are kept as strings (``"torch.float32"``, ``"cpu"``), so that
a graph is nothing but tensors, numbers and text.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.graph import Ref

# What torch.export leaves of arithmetic on the batch's size, and of operators with several results.
OPERATOR_NAMES = (
    *("add", "sub", "mul", "floordiv", "mod", "neg", "pow", "truediv"),
    *("eq", "ne", "lt", "le", "gt", "ge", "getitem"),
)
SYMBOLIC_NAMES = ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_sum")
PLAIN = (torch.dtype, torch.layout, torch.memory_format)


def operator_name(function: object) -> str | None:
    """Name an operator of a traced graph.

    Args:
        function: What is called.

    Returns:
        ``"aten.layer_norm.default"``, ``"operator.mul"`` or ``"torch.sym_max"``; None for what `resolve`
        would not find, as control flow and Python functions.
    """
    if isinstance(function, torch._ops.OpOverload):
        return str(function)
    for home, module, names in (
        ("operator", operator, OPERATOR_NAMES),
        ("torch", torch, SYMBOLIC_NAMES),
    ):
        for name in names:
            if getattr(module, name, None) is function:
                return f"{home}.{name}"
    return None


def resolve(target: str) -> Callable[..., Any]:
    """Find an operator by its name.

    Args:
        target: As `operator_name` gives it.

    Returns:
        The operator.

    Raises:
        ValueError: If there is none, for instance because the package that registers it is not imported.
    """
    home, _, name = target.partition(".")
    try:
        if home == "operator" and name in OPERATOR_NAMES:
            found = getattr(operator, name)
        elif home == "torch" and name in SYMBOLIC_NAMES:
            found = getattr(torch, name)
        else:
            packet, _, overload = name.partition(".")
            found = getattr(getattr(getattr(torch.ops, home), packet), overload)
            if not isinstance(found, torch._ops.OpOverload):
                raise AttributeError(target)
    except (AttributeError, RuntimeError) as error:
        raise ValueError(
            f"torch has no operator {target!r}; if a package adds it, import that package first"
        ) from error
    return found  # type: ignore[no-any-return]


def is_random(target: str) -> bool:
    """Say whether an operator may draw random numbers.

    Args:
        target: As `operator_name` gives it.
    """
    return torch.Tag.nondeterministic_seeded in getattr(resolve(target), "tags", ())


def encode(argument: Any) -> Any:
    """Write an argument in plain values.

    Args:
        argument: Numbers, strings, None, tensors, `Ref`, dtypes and the like, and lists of them.

    Returns:
        The same with dtypes, layouts, memory formats and devices as strings, and tuples as lists. All
        devices are the CPU: there the graph runs.

    Raises:
        TypeError: If there is anything else.
    """
    if isinstance(argument, list | tuple):
        return [encode(item) for item in argument]
    if isinstance(argument, PLAIN):
        return str(argument)
    if isinstance(argument, torch.device):
        return "cpu"
    if argument is None or isinstance(argument, bool | int | float | str | Tensor | Ref):
        return argument
    raise TypeError(f"argument {argument!r} of type {type(argument).__name__}")


def decode(argument: Any, values: Callable[[str], Any]) -> Any:
    """Undo `encode`.

    Args:
        argument: What it gave.
        values: Finds the value of a `Ref`.

    Returns:
        What the operator takes.
    """
    if isinstance(argument, list | tuple):
        return [decode(item, values) for item in argument]
    if isinstance(argument, Ref):
        return values(argument.name)
    if isinstance(argument, str) and argument.startswith("torch."):
        found = getattr(torch, argument.removeprefix("torch."), None)
        return found if isinstance(found, PLAIN) else argument
    return argument
