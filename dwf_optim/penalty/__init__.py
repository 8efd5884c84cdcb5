"""Penalty over time and layers: warm-up, a closed loop to a target sparsity, shares, a guard."""

from dwf_optim.penalty.guard import LayerGuard
from dwf_optim.penalty.schedule import (
    ConstantPenalty,
    LambdaPenalty,
    PenaltyScheduler,
    PenaltyWarmup,
)
from dwf_optim.penalty.target import TargetSparsity

__all__ = [
    "ConstantPenalty",
    "LambdaPenalty",
    "LayerGuard",
    "PenaltyScheduler",
    "PenaltyWarmup",
    "TargetSparsity",
]
