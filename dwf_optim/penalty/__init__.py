"""Penalty over time and layers: warm-up, target sparsity, debias phase, shares, a guard."""

from dwf_optim.penalty.debiasing import Debias, debias
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
    "Debias",
    "LambdaPenalty",
    "LayerGuard",
    "PenaltyScheduler",
    "PenaltyWarmup",
    "TargetSparsity",
    "debias",
]
