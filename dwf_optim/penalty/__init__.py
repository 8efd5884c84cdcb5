"""Penalty over time: warm-up, and a closed loop to a target sparsity."""

from dwf_optim.penalty.schedule import (
    ConstantPenalty,
    LambdaPenalty,
    PenaltyScheduler,
    PenaltyWarmup,
)
from dwf_optim.penalty.target import TargetSparsity

__all__ = ["ConstantPenalty", "LambdaPenalty", "PenaltyScheduler", "PenaltyWarmup", "TargetSparsity"]
