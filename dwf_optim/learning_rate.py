r"""The factor-space learning rate: one scale per group, its usable window, and the decay budget.

A step of size eta on balanced factors moves the weight by about ``D |w|^{2-2/D} eta`` times the
gradient (SGD-type bases), or by about ``D |w|^{1-1/D} eta`` (Adam-type bases, whose step does not
depend on the gradient's size). `auto_lr_scale` undoes that at one reference magnitude, so that ``lr``
keeps the meaning it has for the dense base.

The same scaled rate drives the penalty: a weight without gradient shrinks, for SGD-type bases and
whatever the depth, as ``exp(-2 lambda sum_t eta_t)``. Below a certain ``lambda sum eta`` NO weight can
become zero; `decay_budget` says so before or after a run.

The laws are derived, not published. How well they hold, and at which rates training works, is measured
in ``benchmarks/results/lr_window.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dwf_optim.notify import warn
from dwf_optim.structure import is_elementwise

BaseKind = Literal["sgd", "adam"]

# A typical |weight| that matters after training.
REFERENCE_WEIGHT = 0.13

# Root mean square up to which a group's weights are of the size that inits draw: torch's default for
# linear layers is 1 / sqrt(3 fan_in), at most 0.58. Weights beyond start where a rate made for small
# ones diverges, and the largest diverge first; of ten thousand normal ones the largest is 4 rms.
USUAL_SPREAD = 0.6
LARGEST = 4

# Where a weight that is not needed starts its way to zero: the scale of usual inits.
TYPICAL_START = 0.05

# The same for a group of weights that share gates, by its norm: torch's default init gives every filter
# and neuron 1 / sqrt(3), whatever its size.
TYPICAL_NORM = 0.58

# lr / (1 - momentum) beyond which training failed wherever it was measured, in lr_window.md and mnist.md
# of benchmarks/results: below the first number it barely moved, above the second it diverged or stalled.
# The upper ends are half way (by ratio) between the last rate that ever worked and the next one tried.
LR_WINDOW: dict[BaseKind, tuple[float, float]] = {"sgd": (0.01, 1.7), "adam": (1e-5, 0.055)}

# The collapse threshold of the paper: the spacing of float32 at 1.
FLOAT32_EPS = 2.0**-23


def auto_lr_scale(depth: int, kind: BaseKind, spread: float = 0.0) -> float:
    r"""Return the number that turns a dense learning rate into a factor-space one.

    .. math:: s = \frac{1}{D\, w_{ref}^{2 - 2/D}} \text{ (SGD-type)}, \qquad
              s = \frac{1}{D\, w_{ref}^{1 - 1/D}} \text{ (Adam-type)}

    with :math:`w_{ref} = 0.13 + 4 \max(0, \sigma - 0.6)`: 3.8 / 5.1 / 5.3 and 1.4 / 1.3 / 1.2 at
    depth 2 / 3 / 4 for weights as inits draw them, less for weights that start larger.

    Args:
        depth: ``D``; 1 gives exactly 1.
        kind: "sgd" where a step is proportional to the gradient, "adam" where it is not.
        spread: ``sigma``, root mean square of the weights at the start; up to 0.6 it has no effect. The
            optimizer looks at it in groups without penalty only, because the scale drives the decay too.

    Returns:
        The factor-space rate is ``lr`` times this.
    """
    if depth == 1:
        return 1.0
    exponent = 2 - 2 / depth if kind == "sgd" else 1 - 1 / depth
    reference = REFERENCE_WEIGHT + LARGEST * max(0.0, spread - USUAL_SPREAD)
    return 1 / (depth * math.pow(reference, exponent))


@dataclass(frozen=True)
class DecayBudget:
    """Whether a run's penalty can drive weights to zero at all.

    Attributes:
        available: ``lambda * sum_t eta_t``, momentum and scale included.
        required: What takes a weight from its start to the collapse threshold without gradient.
        penalty_needed: The lambda that would just do, other things equal; inf at zero rates.
        steps_needed: The steps that would just do, at the mean rate; inf at zero rate or penalty.
        reached_at: The step by which that weight is at the threshold; None if never, or where only the
            sums are known.
    """

    available: float
    required: float
    penalty_needed: float
    steps_needed: float
    reached_at: int | None = None

    @property
    def reachable(self) -> bool:
        """Whether a weight that gets no gradient reaches the threshold."""
        return self.available >= self.required

    def advice(self) -> str:
        """Say in one sentence what is missing and what would do."""
        needed = f"the decay budget lambda * sum(lr) is {self.available:.3g} of {self.required:.3g}"
        if self.reachable:
            when = "" if self.reached_at is None else f" by step {self.reached_at}"
            return f"{needed}: weights without gradient reach zero{when}"
        return (
            f"{needed} needed for a weight to reach zero: raise penalty to "
            f"{self.penalty_needed:.2g} or train for {self.steps_needed:.0f} steps"
        )


def required_decay(start: float = TYPICAL_START, threshold: float = FLOAT32_EPS) -> float:
    """Return the ``lambda * sum eta`` that shrinks a weight from ``start`` to ``threshold``.

    Args:
        start: ``|weight|`` to start from.
        threshold: ``|weight|`` at which it counts as zero.

    Returns:
        ``ln(start / threshold) / 2``: 6.5 for the defaults.

    Raises:
        ValueError: If the threshold is not between 0 and the start.
    """
    if not 0 < threshold < start:
        raise ValueError(f"need 0 < threshold < start, got threshold {threshold}, start {start}")
    return math.log(start / threshold) / 2


def momentum_gain(group: Mapping[str, Any]) -> float:
    """Return by how much heavy-ball momentum multiplies the sum of learning rates.

    Args:
        group: A parameter group; ``momentum`` and ``dampening`` count, where they exist.

    Returns:
        ``(1 - dampening) / (1 - momentum)``; 1 for a base without momentum.
    """
    momentum = float(group.get("momentum") or 0.0)
    dampening = float(group.get("dampening") or 0.0) if momentum else 0.0
    return (1 - dampening) / (1 - momentum) if momentum < 1 else math.inf


def peak_of(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the highest rate and momentum that a group says it will have.

    Args:
        group: A parameter group; schedulers note ``initial_lr``, ``max_lr`` and ``max_momentum`` there.

    Returns:
        ``lr``, and ``momentum`` where the group has one.
    """

    def highest(*keys: str) -> float:
        return max(float(group[key]) for key in keys if group.get(key) is not None)

    peak = {"lr": highest("lr", "initial_lr", "max_lr")}
    if group.get("momentum") is not None:
        peak["momentum"] = highest("momentum", "max_momentum")
    return peak


def decay_budget(
    lr: float | Iterable[float] | Callable[[int], float],
    *,
    penalty: float,
    steps: int,
    lr_scale: float = 1.0,
    momentum: float = 0.0,
    start: float = TYPICAL_START,
    threshold: float = FLOAT32_EPS,
) -> DecayBudget:
    r"""Say whether weights can reach zero under a schedule; for SGD-type bases.

    A weight without gradient shrinks as :math:`e^{-2 \lambda \sum_t \eta_t / (1 - \mu)}`, whatever the
    depth, with :math:`\eta_t = s \cdot lr_t`. Adam-type bases normalize the penalty away and follow no
    such law.

    Args:
        lr: A constant rate, one rate a step, or a function of the step (from 0).
        penalty: ``lambda``.
        steps: How many steps are taken.
        lr_scale: ``s``; `auto_lr_scale` gives the default's.
        momentum: ``mu``.
        start: ``|weight|`` to start from.
        threshold: ``|weight|`` at which it counts as zero.

    Returns:
        The budget.

    Raises:
        ValueError: If a number is out of range, or ``lr`` has fewer rates than ``steps``.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if not (penalty >= 0 and 0 <= momentum < 1 and lr_scale > 0):
        raise ValueError(
            "need penalty >= 0, 0 <= momentum < 1 and lr_scale > 0, got "
            f"penalty {penalty}, momentum {momentum}, lr_scale {lr_scale}"
        )
    if callable(lr):
        total = math.fsum(lr(step) for step in range(steps))
    elif isinstance(lr, Iterable):
        rates = list(lr)
        if len(rates) < steps:
            raise ValueError(f"lr has {len(rates)} rates for {steps} steps; give one a step")
        total = math.fsum(rates[:steps])
    else:
        total = lr * steps
    travelled = total * lr_scale / (1 - momentum)
    return budget_from_travel(travelled * penalty, travelled, steps, required_decay(start, threshold))


def budget_from_travel(available: float, travelled: float, steps: int, required: float) -> DecayBudget:
    """Build a budget from sums already taken, as the optimizer keeps them.

    Args:
        available: ``sum_t lambda_t eta_t``.
        travelled: ``sum_t eta_t``.
        steps: How many steps that was.
        required: From `required_decay`.

    Returns:
        The budget.
    """
    return DecayBudget(
        available=available,
        required=required,
        penalty_needed=required / travelled if travelled > 0 else math.inf,
        steps_needed=math.ceil(steps * required / available) if available > 0 else math.inf,
    )


def budgets_of_run(
    groups: Iterable[Mapping[str, Any]], kind: BaseKind, threshold: float
) -> list[DecayBudget]:
    """Build the budget of each group that has stepped from what the groups have summed up.

    Args:
        groups: The optimizer's.
        kind: Of its base.
        threshold: ``|weight|`` that counts as zero.

    Returns:
        None of them for Adam-type bases, nor for thresholds at which ordinary weights count as zero, nor
        for groups with ``weigh_by_size``.
    """
    if kind != "sgd" or not 0 < threshold < TYPICAL_START:
        return []
    return [
        budget_from_travel(
            group["penalty_sum"], group["lr_sum"], group["steps"], required_of(group, threshold)
        )
        for group in groups
        if group["steps"] > 0 and has_one_budget(group)
    ]


def required_of(group: Mapping[str, Any], threshold: float) -> float:
    """Return `required_decay` from where a parameter group's weights, or groups of them, start.

    Args:
        group: A parameter group.
        threshold: ``|weight|``, or norm, at which one counts as zero.
    """
    start = TYPICAL_START if is_elementwise(group["structure"]) else TYPICAL_NORM
    return required_decay(start, threshold)


def has_one_budget(group: Mapping[str, Any]) -> bool:
    """Say whether one budget goes for all of a parameter group: not where penalties go by size."""
    return not group["weigh_by_size"]


def warn_outside_window(group: Mapping[str, Any], kind: BaseKind) -> None:
    """Warn about a learning rate at which training is not expected to work.

    The rate judged is the highest the group says it will have: schedulers note ``initial_lr`` and
    ``max_lr``. Momentum counts as the factor by which it lengthens steps; where a scheduler cycles it,
    it is at its ``base_momentum`` when the rate is highest.

    Args:
        group: A parameter group.
        kind: The base's.
    """
    if kind == "adam" and "betas" not in group:
        return  # measured with Adam; what a rate means for Adadelta or Rprop is another matter
    peak = {**group, **peak_of(group)}
    if "momentum" in group and "base_momentum" in group:
        peak["momentum"] = group["base_momentum"]
    rate = max(float(moment["lr"]) * momentum_gain(moment) for moment in (group, peak))
    low, high = LR_WINDOW[kind]
    if low < rate < high or rate == 0:
        return
    effect = "barely moved" if rate <= low else "diverged or stalled"
    warn(
        f"lr outside the usable window: lr / (1 - momentum) is {rate:.3g} and should be "
        f"between {low:.3g} and {high:.3g}; beyond, training {effect} where we measured it (README, "
        "Results). Change lr, or set lr_scale to choose the factor-space rate yourself",
    )
