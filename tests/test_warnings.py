"""What is legal and probably a mistake is said once, at the user's own line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from dwf_optim import DWFOptimizer


def build(params: Any = None, **options: Any) -> DWFOptimizer:
    options = {"lr": 0.1, "penalty": 1e-3, **options}
    return DWFOptimizer([Parameter(torch.ones(2, 3))] if params is None else params, **options)


def test_weight_decay_warns_once_and_only_where_there_are_factors() -> None:
    weights = [Parameter(torch.ones(2, 2)) for _ in range(3)]
    groups = [{"params": [w]} for w in weights]
    pattern = re.escape("weight_decay=0.01")
    with pytest.warns(UserWarning, match=pattern) as caught:
        optimizer = build(groups, weight_decay=0.01)
    assert len(caught) == 1
    optimizer.add_param_group({"params": [Parameter(torch.ones(2, 2))], "weight_decay": 0.02})
    for w in weights:
        w.grad = torch.ones(2, 2)
    optimizer.step()  # a second warning would be an error
    # None of these has both a decay that was asked for and factors:
    build(weight_decay=0.0)
    build(depth=1, weight_decay=0.01)
    build([Parameter(torch.ones(3))], weight_decay=0.01)
    build(base=torch.optim.AdamW)
    own = [{"params": [Parameter(torch.ones(2, 2))], "weight_decay": 0.01} for _ in range(3)]
    with pytest.warns(UserWarning, match=pattern) as caught:
        build(own)
    assert len(caught) == 1


def test_warnings_point_at_the_users_line() -> None:
    with pytest.warns(UserWarning, match="weight_decay") as caught:
        DWFOptimizer([Parameter(torch.ones(2, 2))], lr=0.1, penalty=0.0, weight_decay=0.01)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="even depth") as caught:
        DWFOptimizer([Parameter(torch.ones(2, 2))], lr=0.1, penalty=0, depth=2, init="balanced")
    assert caught[0].filename == __file__


def one_cycle(max_lr: float, **options: Any) -> None:
    """Take the first step of a run under OneCycleLR."""
    weight = Parameter(torch.ones(2, 2))
    optimizer = build([weight], momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=10, **options)
    weight.grad = torch.ones(2, 2)
    optimizer.step()


def test_cycled_momentum_is_judged_together_with_the_rate_it_meets() -> None:
    one_cycle(0.1)  # 0.1 / (1 - 0.85) at the peak; max_momentum, 0.95, goes with the lowest rate
    with pytest.warns(UserWarning, match="diverged or stalled"):
        one_cycle(0.3)  # 0.3 / 0.15
    with pytest.warns(UserWarning, match="diverged or stalled"):
        one_cycle(0.1, div_factor=1.0)  # starts at 0.1 / 0.05
