"""What `recommend` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from dwf_optim.recommend.schedule import UNTIL, WARM_UP, RunSchedule
from dwf_optim.recommend.trial import Trial


@dataclass(frozen=True)
class Recommendation:
    """Learning rate, penalty and number of steps for a model, and why.

    Attributes:
        lr: Highest rate of the run.
        penalty: ``lambda`` to start with, mean over the weights that have factors.
        steps: Of the run.
        target: Fraction of zeros that `scheduler` steers to.
        reasons: A sentence each for "lr", "penalty" and "steps".
        curves: The trials that this rests on, by what was varied: "lr", and "penalty", of which the
            first is without.
        options: Everything for `~dwf_optim.DWFOptimizer` but the parameters.
    """

    lr: float
    penalty: float
    steps: int
    target: float
    reasons: Mapping[str, str]
    curves: Mapping[str, tuple[Trial, ...]] = field(repr=False)
    options: Mapping[str, Any]

    def scheduler(self, optimizer: Optimizer) -> RunSchedule:
        """Make the schedule of the run: ``step()`` it after every ``optimizer.step()``.

        Args:
            optimizer: ``DWFOptimizer(params, **advice.options)``, before its first step.

        Returns:
            Warm-up and cosine for the rate, `~dwf_optim.TargetSparsity` for the penalty.

        Raises:
            TypeError: If it is no `~dwf_optim.DWFOptimizer`.
            ValueError: If nothing in it can become sparse.
        """
        return RunSchedule(optimizer, self.penalty, self.target, self.steps)

    def report(self) -> str:
        """Say in a few lines what is recommended and why."""
        base, depth = self.options["base"].__name__, self.options["depth"]
        spent = sum(len(trial.losses) for trials in self.curves.values() for trial in trials)
        return "\n".join(
            [
                f"For {self.target:.4g} zeros at depth {depth} with {base}, by {spent} steps of trial:",
                f"  lr       {self.lr:<9g} {self.reasons['lr']}",
                f"  penalty  {self.penalty:<9.2g} {self.reasons['penalty']}",
                f"  steps    {self.steps:<9d} {self.reasons['steps']}",
                f"The rate rises for {WARM_UP:.0%} of the run and falls as a cosine; the target is "
                f"reached after {UNTIL:.0%}, and the rest is for the weights that stay.",
            ]
        )

    def plot(self) -> Any:
        """Draw the trials: loss over rate, loss over penalty, and how fast weights shrink.

        Returns:
            A matplotlib figure; ``savefig`` writes it.

        Raises:
            ImportError: If matplotlib is missing.
        """
        from dwf_optim.recommend.figure import draw

        return draw(self)
