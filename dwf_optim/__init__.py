"""Sparse training by deep weight factorization: swap one line, get exact zeros."""

from dwf_optim.budget import RunBudget
from dwf_optim.groups import param_groups
from dwf_optim.learning_rate import DecayBudget, auto_lr_scale, decay_budget
from dwf_optim.monitor import Monitor
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.penalty import LayerGuard, PenaltyWarmup, TargetSparsity, debias
from dwf_optim.recommend import Recommendation, recommend
from dwf_optim.report import LayerReport, SparsityReport
from dwf_optim.sparsify import sparsify

__all__ = [
    "DWFOptimizer",
    "DecayBudget",
    "LayerGuard",
    "LayerReport",
    "Monitor",
    "PenaltyWarmup",
    "Recommendation",
    "RunBudget",
    "SparsityReport",
    "TargetSparsity",
    "auto_lr_scale",
    "debias",
    "decay_budget",
    "param_groups",
    "recommend",
    "sparsify",
]
