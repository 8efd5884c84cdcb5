"""A run that is saved, loaded and continued is the run that was never stopped."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dwf_optim.testing.counterexample import fail

Make = Callable[[], tuple[nn.Module, Optimizer]]
Train = Callable[[nn.Module, Optimizer, int], object]


def assert_resume_exact(make: Make, train: Train, *, steps: int = 6, resume_at: int = 3) -> None:
    """Assert that a resumed run is, to the bit, the run that went through.

    Model and optimizer are saved after ``resume_at`` steps, through ``torch.save`` and
    ``torch.load(weights_only=True)``, and loaded into new ones. Both runs then do the same arithmetic on
    the same numbers, so the bound is zero: parameters, buffers and optimizer state must agree in value,
    dtype and shape.

    Args:
        make: Builds model and optimizer; called twice, and the second pair must get all it needs from
            the checkpoint.
        train: ``(model, optimizer, number)`` takes training step ``number``; the same number must mean
            the same data and random draws.
        steps: Of the whole run.
        resume_at: After how many of them the checkpoint is taken; 0 saves before the first.

    Raises:
        AssertionError: Naming the first value that differs.
        ValueError: If steps are out of range, or ``train`` does not change the model: nothing would be
            tested.
    """
    if not 0 <= resume_at < steps:
        raise ValueError(f"need 0 <= resume_at < steps, got resume_at {resume_at}, steps {steps}")
    model, optimizer = make()
    before = dict(_values(model, optimizer))
    saved = _save(model, optimizer)
    for number in range(steps):
        if number == resume_at:
            saved = _save(model, optimizer)
        train(model, optimizer, number)
    through = dict(_values(model, optimizer))
    if all(
        _same(value, before.get(name)) for name, value in through.items() if name.startswith("model.")
    ):
        raise ValueError(f"the model has not changed in {steps} steps: give train one that trains")

    model, optimizer = make()
    checkpoint = torch.load(io.BytesIO(saved), weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    for number in range(resume_at, steps):
        train(model, optimizer, number)
    resumed = dict(_values(model, optimizer))

    case = {"steps": steps, "resumed after": resume_at, "optimizer": type(optimizer).__name__}
    for name in {**through, **resumed}:
        one, other = through.get(name), resumed.get(name)
        if name not in resumed or name not in through or not _same(one, other):
            fail(
                f"the resumed run differs in {name}",
                {
                    "run through": one if name in through else "missing",
                    "resumed": other if name in resumed else "missing",
                },
                case,
            )


def _save(model: nn.Module, optimizer: Optimizer) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    return buffer.getvalue()


def _values(model: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Go through all that a checkpoint holds, by path; tensors copied."""
    yield from _leaves("model", model.state_dict())
    yield from _leaves("optimizer", optimizer.state_dict())


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(f"{path}.{key}", part)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _leaves(f"{path}.{index}", part)
    else:
        yield path, value.detach().clone() if isinstance(value, Tensor) else value


def _same(one: Any, other: Any) -> bool:
    """Say whether two values agree to the bit, NaN with NaN."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return bool(type(one) is type(other) and (one == other or (one != one and other != other)))
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())
