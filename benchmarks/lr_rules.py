r"""The rules by which `benchmarks.lr_study` turns a dense learning rate into one for factors.

All act from outside, on a `DWFOptimizer`: by its ``lr_scale``, or by what its gradients are multiplied
with before each step. The decay of the factors goes at ``lr * lr_scale`` and never sees the latter.

What they are about is a weight's *speed*, how far a step of factors moves it over how far the dense step
of the same rate does. With :math:`\pi_d = \prod_{e \ne d} f_e`, to first order in the rate, it is
:math:`\sum_d \pi_d^2` for SGD-type bases and :math:`\sum_d |\pi_d|` for Adam-type ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.data import Split
from dwf_optim import DWFOptimizer, auto_lr_scale
from dwf_optim.factors import leave_one_out
from dwf_optim.learning_rate import BaseKind


def speed(factors: Sequence[Tensor], kind: BaseKind) -> Tensor:
    """Return each weight's speed at ``lr_scale=1``, of the shape of one factor."""
    others = leave_one_out(factors)
    terms = [other.square() if kind == "sgd" else other.abs() for other in others]
    return torch.stack(terms).sum(0)


def matching_scale(pairs: Sequence[tuple[Sequence[Tensor], Tensor]], kind: BaseKind) -> float:
    """Return the ``lr_scale`` at which the first step moves weights as far as the dense base does.

    Args:
        pairs: For every tensor its factors and its gradient, all of one shape.
        kind: Of the base.

    Returns:
        Dense over factor-space root mean square of the move, over the entries of all tensors together.
    """
    dense = moved = 0.0
    for factors, gradient in pairs:
        step = gradient if kind == "sgd" else gradient.sign()
        dense += float(step.square().sum())
        moved += float((speed(factors, kind) * step).square().sum())
    return math.sqrt(dense / moved)


def _auto(optimizer: DWFOptimizer, model: nn.Module, batch: Split, kind: BaseKind) -> None:
    pass  # what the optimizer does by itself


def _raw(optimizer: DWFOptimizer, model: nn.Module, batch: Split, kind: BaseKind) -> None:
    optimizer.param_groups[0]["lr_scale"] = 1.0


def _rms(optimizer: DWFOptimizer, model: nn.Module, batch: Split, kind: BaseKind) -> None:
    weights = list(optimizer.factorized())
    gradients = torch.autograd.grad(F.cross_entropy(model(batch.inputs), batch.targets), weights)
    pairs = [(optimizer.factors(w), g) for w, g in zip(weights, gradients, strict=True)]
    optimizer.param_groups[0]["lr_scale"] = matching_scale(pairs, kind)


def _cap(optimizer: DWFOptimizer, model: nn.Module, batch: Split, kind: BaseKind) -> None:
    def limit(weight: Tensor, depth: int) -> Tensor:
        root = weight.abs().amax().pow(1 / depth)  # as if its factors were balanced
        return speed([root] * depth, kind)

    _lower_gradients(optimizer, kind, limit)


def _cap_each(optimizer: DWFOptimizer, model: nn.Module, batch: Split, kind: BaseKind) -> None:
    _lower_gradients(optimizer, kind, lambda weight, depth: speed(optimizer.factors(weight), kind))


def _lower_gradients(
    optimizer: DWFOptimizer, kind: BaseKind, speeds: Callable[[Tensor, int], Tensor]
) -> None:
    """Divide gradients, before every step, by the speed at ``lr_scale="auto"`` where that is above 1."""
    depth = optimizer.param_groups[0]["depth"]
    scale = auto_lr_scale(depth, kind)

    @torch.no_grad()
    def before_step(*_: Any) -> None:
        for weight in optimizer.factorized():
            if weight.grad is not None:
                weight.grad.div_((scale * speeds(weight, depth)).clamp_(min=1))

    optimizer.register_step_pre_hook(before_step)


Apply = Callable[[DWFOptimizer, nn.Module, Split, BaseKind], None]

# What each rule does with an optimizer that has lr_scale="auto", before its first step; it may look at a
# batch.
RULES: dict[str, Apply] = {"auto": _auto, "cap": _cap, "rms": _rms, "raw": _raw, "cap each": _cap_each}

SAYS = {
    "auto": "one constant: a weight of 0.13 moves as far as in the dense run",
    "cap": "as auto, and a tensor's gradient is lowered so that its largest weight moves no further",
    "rms": "one constant: the first step moves weights as far, in the root mean square",
    "raw": "none: `lr_scale=1`",
    "cap each": "as auto, and each weight's gradient is lowered so that it moves no further",
}
