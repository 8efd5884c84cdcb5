"""The decay budget of a run that is still to come: its schedules, played through on a copy."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

from dwf_optim.factorization import Factorization
from dwf_optim.learning_rate import (
    FLOAT32_EPS,
    BaseKind,
    DecayBudget,
    has_one_budget,
    momentum_gain,
    peak_of,
    required_of,
)
from dwf_optim.notify import warn
from dwf_optim.optimizer import DWFOptimizer

# |weight| that a run without hope does not even come to: larger ones do something (docs/sparsify.md).
HOPELESS = 1e-3


@dataclass(frozen=True)
class RunBudget:
    """Whether a run can drive weights to zero, group by group.

    Attributes:
        groups: The budgets, by the number of the group; only groups that have factors. None for
            Adam-type bases, which normalize the penalty away and follow no law, nor for groups with
            ``weigh_by_size``, whose layers have penalties of their own.
        steps: Of the whole run, those already taken included.
        steered: Whether `~dwf_optim.TargetSparsity` sets the penalty. It takes the budget that it
            needs; ``penalty_needed`` is about what that is on average.
    """

    groups: Mapping[int, DecayBudget]
    steps: int
    steered: bool = False

    @property
    def reachable(self) -> bool | None:
        """Whether weights without gradient reach zero in every group; None where no law says so."""
        return all(budget.reachable for budget in self.groups.values()) if self.groups else None

    @property
    def reached_at(self) -> int | None:
        """The step by which they have in every group; None if never, or where no law says so."""
        steps = [budget.reached_at for budget in self.groups.values()]
        known = [step for step in steps if step is not None]
        return max(known) if known and len(known) == len(steps) else None

    def advice(self) -> str:
        """Say, a line a group, whether weights reach zero, by when, and what would do."""
        if not self.groups:
            return (
                "no law says what the penalty does: Adam-type bases normalize it away with the gradient "
                "and weigh_by_size gives every layer its own. TargetSparsity steers by what it measures"
            )
        lines = []
        for number, budget in self.groups.items():
            text = budget.advice()
            if self.steered and budget.reachable:
                text = (
                    f"TargetSparsity chooses the penalty, about {budget.penalty_needed:.2g} on average, "
                    f"and has its zeros by step {budget.reached_at}"
                )
            lines.append(f"group {number}: {text}" if len(self.groups) > 1 else text)
        return "\n".join(lines)


@dataclass
class _Stub:
    """What schedulers see of an optimizer: its groups, and a step that they have wrapped."""

    param_groups: list[dict[str, Any]]
    step: Any = field(default_factory=lambda: SimpleNamespace(_wrapped_by_lr_sched=True))
    _opt_called: bool = True


@dataclass
class _Sums:
    """What one group's weights go through.

    Attributes:
        required: From `required_of`.
        before: ``sum_t lambda_t eta_t`` of the steps already taken.
        taken: How many those are.
        travelled: ``sum_t eta_t`` of the steps to come.
        decayed: ``sum_t lambda_t eta_t`` of them.
        reached_at: The step by which the whole sum is what is required.
    """

    required: float
    before: float
    taken: int
    travelled: float = 0.0
    decayed: float = 0.0
    steps: int = 0
    reached_at: int | None = None

    def add(self, group: Mapping[str, Any]) -> None:
        """Take a step."""
        travelled = float(group["lr"]) * lr_scale_of(group, "sgd") * momentum_gain(group)
        self.travelled += travelled
        self.decayed += travelled * float(group["penalty"])
        self.steps += 1
        if self.reached_at is None and self.before + self.decayed >= self.required:
            self.reached_at = self.taken + self.steps

    def budget(self, base: float) -> DecayBudget:
        """Return the budget.

        Args:
            base: The penalty that the schedule, if there is one, multiplies.
        """
        available, missing = self.before + self.decayed, max(0.0, self.required - self.before)
        if self.decayed > 0:
            needed = base * missing / self.decayed
        else:
            needed = missing / self.travelled if self.travelled > 0 else math.inf
        total = self.taken + self.steps
        more = math.ceil(total * self.required / available) if available > 0 else math.inf
        return DecayBudget(available, self.required, needed, more, self.reached_at)

    def steered(self) -> DecayBudget:
        """Return the budget under a loop that takes what is required, if there is any rate."""
        if self.travelled <= 0:
            return self.budget(0.0)
        missing = max(0.0, self.required - self.before)
        total = self.taken + self.steps
        return DecayBudget(self.before + missing, self.required, missing / self.travelled, total, total)


def forecast(
    optimizer: DWFOptimizer,
    schedulers: Any,
    steps: int,
    *,
    every: int = 1,
    threshold: float = FLOAT32_EPS,
    at_peak: bool = False,
) -> RunBudget:
    """Play the schedules through on copies and add up each group's budget.

    Args:
        optimizer: At any step of its run.
        schedulers: None, one, or several, in the order in which the run steps them.
        steps: Still to come.
        every: Steps between two of a learning-rate scheduler: the batches of an epoch, where it goes by
            epochs. Penalty schedulers go by steps.
        threshold: ``|weight|`` that counts as zero; with `TargetSparsity`, which takes away what is not
            zero yet, 1e-3.
        at_peak: Whether rates start at the highest that the groups know of, which without a
            learning-rate scheduler is more than the run will have.

    Returns:
        The budget of the run from its beginning.

    Raises:
        ValueError: As `DWFOptimizer.budget`.
    """
    # These know the optimizer, and the optimizer's method comes here.
    from dwf_optim.penalty.schedule import PenaltyScheduler
    from dwf_optim.penalty.target import TargetSparsity

    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be at least 1, got steps {steps} and every {every}")
    given = _checked(optimizer, schedulers)
    stub = _Stub([_copied(group, at_peak) for group in optimizer.param_groups])
    loop = next((s for s in given if isinstance(s, TargetSparsity)), None)
    if loop is not None:
        threshold = HOPELESS
        # By then the loop is done; a loop that is late tries as long as the run lasts.
        due = math.ceil(loop.until * loop.total_steps) - loop.last_step
        steps = min(steps, due) if due > 0 else steps
    played = [s for s in given if s is not loop]
    base = [float(group["penalty"]) for group in stub.param_groups]
    for scheduler in played:
        if isinstance(scheduler, PenaltyScheduler):
            base = scheduler.base_penalties
    # Whatever in a scheduler refers to the optimizer refers to the stub in its copy.
    played = copy.deepcopy(played, {id(optimizer): stub})
    sums = {
        number: _Sums(required_of(group, threshold), float(group["penalty_sum"]), int(group["steps"]))
        for number, group in enumerate(optimizer.param_groups)
        if optimizer.kind == "sgd" and has_one_budget(group) and _has_factors(group)
    }
    for step in range(1, steps + 1):
        for number, sum_ in sums.items():
            sum_.add(stub.param_groups[number])
        for scheduler in played if step < steps else ():
            if isinstance(scheduler, PenaltyScheduler) or step % every == 0:
                scheduler.step()
    budgets = {
        number: sum_.budget(base[number]) if loop is None else sum_.steered()
        for number, sum_ in sums.items()
    }
    taken = max((sum_.taken for sum_ in sums.values()), default=0)
    return RunBudget(budgets, taken + steps, steered=loop is not None)


def warn_if_hopeless(
    optimizer: DWFOptimizer, schedulers: Any, steps: int, *, every: int = 1, at_peak: bool = False
) -> None:
    """Warn where in the rest of a run no weight can come anywhere near zero.

    Args:
        optimizer: As of `forecast`, and so all others.
        schedulers: All that set rate or penalty, but the first may be missing with ``at_peak``.
        steps: Still to come.
        every: Steps between two of a learning-rate scheduler.
        at_peak: Take the highest rate that the groups know of: what is hopeless then is so for certain.
    """
    budget = forecast(optimizer, schedulers, steps, every=every, threshold=HOPELESS, at_peak=at_peak)
    if budget.reachable is False and not budget.steered:
        warn(
            f"this run makes no zeros: in {budget.steps} steps a weight that is not needed does not "
            f"shrink to {HOPELESS:g}, whatever the data. {budget.advice()}"
        )


def _checked(optimizer: DWFOptimizer, schedulers: Any) -> list[Any]:
    """Return the schedulers as a list, after a look at whether they can be played through.

    Raises:
        TypeError: If one has no ``step``.
        ValueError: If one belongs to another optimizer, or goes by what is measured.
    """
    if schedulers is None:
        return []
    given = list(schedulers) if isinstance(schedulers, Sequence) else [schedulers]
    for scheduler in given:
        name = type(scheduler).__name__
        if not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"schedulers have a step(), {name} has none: {scheduler!r}")
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{name} goes by what the run measures and cannot be known beforehand; leave it out, "
                "and the budget is that of the rate held as it is"
            )
        held = getattr(scheduler, "optimizer", optimizer)
        if getattr(held, "optimizer", held) is not optimizer:
            raise ValueError(
                f"this {name} belongs to another optimizer: ask that one, or make it anew with this"
            )
    return given


def _copied(group: Mapping[str, Any], at_peak: bool) -> dict[str, Any]:
    """Copy a group's options, not its parameters."""
    copied = copy.deepcopy({k: v for k, v in group.items() if k not in ("params", "param_names")})
    return {**copied, **peak_of(copied)} if at_peak else copied


def _has_factors(group: Mapping[str, Any]) -> bool:
    factorization = Factorization.from_group(group)
    return any(factorization.factorizes(p.ndim) for p in group["params"])


def lr_scale_of(group: Mapping[str, Any], kind: BaseKind) -> float:
    """Return the scale that a group's steps have, or will have from the first on.

    Args:
        group: A parameter group with factors and a penalty.
        kind: Of the base.
    """
    factorization = Factorization.from_group(group)
    if factorization.lr_scale != "auto":
        return factorization.lr_scale
    fixed = group["resolved_lr_scale"]
    return factorization.mode.lr_scale(factorization.depth, kind, 0.0) if fixed is None else float(fixed)
