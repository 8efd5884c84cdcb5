"""Penalty over time, with the habits of torch's learning-rate schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from dwf_optim.budget import warn_if_hopeless
from dwf_optim.factorization import INITIAL_PENALTY
from dwf_optim.unwrap import unwrap


class PenaltyScheduler:
    r"""Base of the schedulers: sets every group's ``penalty`` to its first value times a factor.

    As with torch's schedulers, making one sets the penalty of step 0, ``step()`` goes after
    ``optimizer.step()``, and a run goes on exactly when both checkpoints are loaded. Learning-rate
    schedulers run beside it; neither touches what the other sets.

    Args:
        optimizer: Its groups' penalties are the reference. Wrapped by Accelerate will do.
        total_steps: Of the run, if known. The first ``step()`` then warns if weights cannot come near
            zero in so many, even were the learning rate to stay at its highest.

    Attributes:
        base_penalties: Each group's penalty when the scheduler was made.
        last_step: How many steps were taken.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range.
    """

    def __init__(self, optimizer: Optimizer, *, total_steps: int | None = None) -> None:
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        self.optimizer = unwrap(optimizer)
        self.total_steps = total_steps
        self.base_penalties = [_note(group) for group in self.optimizer.param_groups]
        self.last_step = 0
        self._set()

    def factor(self, step: int) -> float:
        """Return what the groups' penalties are multiplied by.

        Args:
            step: From 0.
        """
        raise NotImplementedError

    def step(self) -> None:
        """Go on to the next step's penalty."""
        self.last_step += 1
        self._set()
        if self.last_step == 1 and self.total_steps is not None and self.total_steps > 1:
            warn_if_hopeless(self.optimizer, self, self.total_steps - 1, at_peak=True)

    def get_last_penalty(self) -> list[float]:
        """Return the penalty of each group, as it now is."""
        return [float(group["penalty"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all but the optimizer and the length of the run, which the warning alone is for."""
        left = ("optimizer", "total_steps")
        return {key: value for key, value in vars(self).items() if key not in left}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another scheduler of the same kind stood.

        Args:
            state_dict: From ``state_dict()``. The penalties themselves are in the optimizer's.

        Raises:
            ValueError: If it is from another kind of scheduler, or for another number of groups.
        """
        if unknown := state_dict.keys() ^ self.state_dict().keys():
            raise ValueError(
                f"this is no checkpoint of a {type(self).__name__}: it differs in {sorted(unknown)}"
            )
        count = len(state_dict["base_penalties"])
        if count != len(self.optimizer.param_groups):
            raise ValueError(
                f"the checkpoint has penalties of {count} groups, the optimizer has "
                f"{len(self.optimizer.param_groups)}"
            )
        vars(self).update(state_dict)

    def _set(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) > len(self.base_penalties):  # added since
            # A new list, because checkpoints hold the old one.
            added = [_note(group) for group in groups[len(self.base_penalties) :]]
            self.base_penalties = [*self.base_penalties, *added]
        factor = float(self.factor(self.last_step))
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(
                f"the factor of step {self.last_step} must be finite and >= 0, got {factor}"
            )
        for group, base in zip(groups, self.base_penalties, strict=True):
            group["penalty"] = base * factor


def _note(group: dict[str, Any]) -> float:
    """Return a group's penalty, noted there as torch's schedulers note ``initial_lr``.

    A warm-up may take the first steps to 0, and the optimizer has to know that a penalty will come.
    """
    penalty = float(group["penalty"])
    group.setdefault(INITIAL_PENALTY, penalty)
    return penalty


class LambdaPenalty(PenaltyScheduler):
    """Any function of the step.

    Args:
        optimizer: As of `~dwf_optim.penalty.PenaltyScheduler`.
        function: From the step (from 0) to the factor. Not saved in checkpoints.
        total_steps: As of `~dwf_optim.penalty.PenaltyScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        function: Callable[[int], float],
        *,
        total_steps: int | None = None,
    ) -> None:
        self.function = function
        super().__init__(optimizer, total_steps=total_steps)

    def factor(self, step: int) -> float:
        """Ask the function."""
        return self.function(step)

    def state_dict(self) -> dict[str, Any]:
        """Return what the others do, without the function."""
        return {key: value for key, value in super().state_dict().items() if key != "function"}


class ConstantPenalty(PenaltyScheduler):
    """The groups' penalties as they are: what code that expects a scheduler can be given."""

    def factor(self, step: int) -> float:
        """Return 1."""
        return 1.0


RAMPS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: (1 - math.cos(math.pi * done)) / 2,
}


class PenaltyWarmup(PenaltyScheduler):
    r"""From a part of the penalty to all of it.

    .. math:: \lambda_t = \lambda \, (s + (1 - s) \, r(\min(1, t / T)))

    with :math:`r(x) = x` ("linear") or :math:`(1 - \cos \pi x) / 2` ("cosine").

    Args:
        optimizer: As of `~dwf_optim.penalty.PenaltyScheduler`.
        steps: ``T``, after how many the penalty is whole, at least 1.
        start: ``s``, the part that step 0 has, in [0, 1].
        shape: "linear" or "cosine".
        total_steps: As of `~dwf_optim.penalty.PenaltyScheduler`.

    Raises:
        ValueError: If a number is out of range or the shape unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        *,
        start: float = 0.0,
        shape: str = "linear",
        total_steps: int | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 <= start <= 1:
            raise ValueError(f"start is a part of the penalty, 0 to 1, got {start}")
        if shape not in RAMPS:
            raise ValueError(f"unknown shape {shape!r}; use one of {sorted(RAMPS)}")
        self.steps, self.start, self.shape = steps, start, shape
        super().__init__(optimizer, total_steps=total_steps)

    def factor(self, step: int) -> float:
        """Return the part of the penalty at a step."""
        return self.start + (1 - self.start) * RAMPS[self.shape](min(1.0, step / self.steps))
