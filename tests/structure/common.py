"""A problem over tensors of every structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import Base, seeded
from tests.reference.gates import CASES, Case

PENALTY = 0.01


def draw(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal draws from a generator of their own."""
    return torch.randn(tuple(shape), generator=seeded(seed), dtype=torch.float64).to(dtype)


def parameters(cases: Sequence[Case] = CASES, dtype: torch.dtype = torch.float64) -> list[Parameter]:
    """A tensor for each case; every second one is laid out in another order in memory."""
    params = []
    for index, case in enumerate(cases):
        value = 0.4 * draw(case.shape, 20 + index, dtype)
        if index % 2:
            value = value.transpose(0, -1).contiguous().transpose(0, -1)
        params.append(Parameter(value))
    return params


def loss(weights: Sequence[Tensor]) -> Tensor:
    """A regression through each tensor; no two elements matter alike."""
    total = weights[0].new_zeros(())
    for index, weight in enumerate(weights):
        features = draw((7, weight.numel()), 40 + index, weight.dtype)
        targets = draw((7,), 60 + index, weight.dtype)
        total = total + ((torch.tanh(features @ weight.reshape(-1)) - targets) ** 2).mean()
    return total


def groups(params: Sequence[Tensor], cases: Sequence[Case] = CASES) -> list[dict[str, Any]]:
    """One parameter group a case."""
    return [{"params": [p], "structure": case.structure} for p, case in zip(params, cases, strict=True)]


def make(params: Sequence[Tensor], base: Base, **options: Any) -> DWFOptimizer:
    """One optimizer over tensors of every structure."""
    options = {"penalty": PENALTY, "flush": None, "min_ndim": 1, **base.options, **options}
    return DWFOptimizer(groups(params), base=base.cls, **options)


def train(params: Sequence[Tensor], optimizer: DWFOptimizer, steps: int) -> None:
    """Take steps on `loss`."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss(params).backward()
        optimizer.step()
