"""The schedule of a recommended run: warm-up and cosine for the rate, a target for the penalty."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dwf_optim.penalty import TargetSparsity
from dwf_optim.recommend.trial import set_penalty
from dwf_optim.unwrap import unwrap

# Part of a run in which the rate rises, and the part of its height that it starts with.
WARM_UP, FROM = 0.05, 0.1
# Part of a run by which the target is reached; the rest is for the weights that stay.
UNTIL = 0.75


def rate_factor(done: float) -> float:
    r"""Return the part of the highest rate.

    .. math:: r(x) = \min\left(1,\; 0.1 + 0.9\, x / 0.05\right) \cdot (1 + \cos \pi x) / 2

    Args:
        done: ``x``, how much of the run is over, 0 to 1.
    """
    return min(1.0, FROM + (1 - FROM) * done / WARM_UP) * (1 + math.cos(math.pi * done)) / 2


def mean_rate(until: float = UNTIL, samples: int = 1000) -> float:
    """Return the mean of `rate_factor` over the first part of a run."""
    return math.fsum(rate_factor(until * (i + 0.5) / samples) for i in range(samples)) / samples


class RunSchedule:
    """Sets rate and penalty of a recommended run: ``step()`` after every ``optimizer.step()``.

    Args:
        optimizer: New, with the advised options. Wrapped by Accelerate will do.
        penalty: To start with, mean over the weights that have factors; groups keep their ratio.
        target: Fraction of zeros to reach.
        steps: Of the run.

    Attributes:
        rate: `torch.optim.lr_scheduler.LambdaLR` over ``dwf_optim.recommend.rate_factor``.
        sparsity: The `~dwf_optim.TargetSparsity`.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: As of `~dwf_optim.TargetSparsity`.
    """

    def __init__(self, optimizer: Optimizer, penalty: float, target: float, steps: int) -> None:
        own = unwrap(optimizer)
        set_penalty(own, penalty)
        self.sparsity = TargetSparsity(own, target, steps, until=UNTIL)
        self.rate = LambdaLR(own, lambda step: rate_factor(step / steps))

    def step(self) -> None:
        """Go on to the next step's rate and penalty.

        Raises:
            ValueError: After more than the run's steps.
        """
        self.sparsity.step()
        self.rate.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both; the optimizer's checkpoint has rate and penalty themselves."""
        return {"rate": self.rate.state_dict(), "sparsity": self.sparsity.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule of the same run stood.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If it is something else's, or of a run with another target or length.
        """
        if state_dict.keys() != {"rate", "sparsity"}:
            raise ValueError(f"this is no checkpoint of a RunSchedule: it has {sorted(state_dict)}")
        self.sparsity.load_state_dict(state_dict["sparsity"])
        self.rate.load_state_dict(state_dict["rate"])
