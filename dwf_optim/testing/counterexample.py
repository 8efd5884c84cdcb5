"""Messages that show where a law is broken, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# A hypothesis example that has been shrunk is far smaller.
SHOWN = 24


def show(value: Any) -> str:
    """Write a value so that it can be pasted into a test; long tensors are cut."""
    if not isinstance(value, Tensor):
        return repr(value)
    value = value.detach()
    dtype = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
    if value.numel() <= SHOWN:
        return f"torch.tensor({value.tolist()}{dtype})"
    start = ", ".join(map(repr, value.flatten()[:SHOWN].tolist()))
    return f"{tuple(value.shape)} values [{start}, ...]{dtype}"


def name_factors(factors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name factors as the documentation does: f_1, f_2, ..."""
    return {f"f_{d}": factor for d, factor in enumerate(factors, 1)}


def fail(law: str, numbers: Mapping[str, Any], case: Mapping[str, Any]) -> None:
    """Raise an AssertionError that says which law is broken, by how much, and on what.

    Args:
        law: One sentence.
        numbers: What was found and what the law says.
        case: The inputs.

    Raises:
        AssertionError: Always.
    """
    width = max(map(len, [*numbers, *case]))
    lines = [law]
    lines += [f"  {name:<{width}}  {show(value)}" for name, value in numbers.items()]
    lines += ["where"]
    lines += [f"  {name:<{width}}  {show(value)}" for name, value in case.items()]
    raise AssertionError("\n".join(lines))


def check_close(
    law: str, found: Tensor, expected: Tensor, allowed: Tensor, case: Mapping[str, Any]
) -> None:
    """Hold a tensor against its expected value, element by element.

    Args:
        law: What is said if it fails.
        found: Any dtype.
        expected: Same shape.
        allowed: How far the two may be apart; infinite where nothing can be said.
        case: The inputs.

    Raises:
        AssertionError: Naming the element that is farthest off, in units of what it may be.
    """
    if found.shape != expected.shape:
        fail(law, {"found shape": tuple(found.shape), "expected shape": tuple(expected.shape)}, case)
    error = (found.detach().double() - expected.detach().double()).abs()
    wrong = ~(error <= allowed) & ~allowed.isinf()
    if not bool(wrong.any()):
        return
    excess = torch.where(wrong, error / allowed.clamp(min=torch.finfo(torch.float64).tiny), -1.0)
    worst = int(excess.nan_to_num(nan=torch.inf).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), excess.shape))
    numbers = {
        "at index": index,
        "found": float(found.flatten()[worst]),
        "expected": float(expected.flatten()[worst]),
        "may differ by": float(allowed.expand(error.shape).flatten()[worst]),
    }
    fail(law, numbers, case)
