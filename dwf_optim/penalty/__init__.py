"""Penalty over time: warm-up, a closed loop to a target sparsity, and the debias phase."""

from dwf_optim.penalty.debiasing import Debias, debias
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
    "PenaltyScheduler",
    "PenaltyWarmup",
    "TargetSparsity",
    "debias",
]
