"""A closed loop that steers the penalty to a target sparsity."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from dwf_optim.factorization import factorized
from dwf_optim.members import find
from dwf_optim.notify import warn
from dwf_optim.penalty.removal import check_floors, check_sparsity, remove_smallest
from dwf_optim.protection import floors
from dwf_optim.sharding import whole
from dwf_optim.unwrap import unwrap

logger = logging.getLogger(__name__)

# The part of a run after which the first weights are removed: before, they have not sorted themselves.
FROM = 0.1
# The loop looks so often in a run.
LOOKS = 100
# How the penalty's logarithm answers, at a look, to the error and to its change. Up slowly, down fast:
# too little penalty mostly costs little, because the smallest weights are removed anyway; too much
# costs accuracy (benchmarks/results/target_sparsity.md has both, and the cases in which it is too slow).
UP, DOWN, CHANGE = 0.05, 0.3, 0.3
# Largest error that counts, in logarithms: a far miss says no more than a near one.
LARGEST_ERROR = 2.0
# Contrast above which the weights that are removed cannot be told from those that stay. Of normal
# ones, which nothing has sorted, it is 0.5 at a sparsity of 0.5 and 0.79 at 0.9.
NO_CONTRAST = 0.7


class TargetSparsity:
    r"""Steer the penalty so that a target sparsity is reached, without choosing lambda.

    Between a tenth of the run and the part :math:`u` of it, the loop removes the smallest weights
    along the schedule of gradual pruning,

    .. math:: s_t = s \left(1 - (1 - x_t)^3\right), \qquad x_t = \frac{t - 0.1\, T}{u T - 0.1\, T},

    all tensors together, for good, with factors and state, so that the number of zeros is exact. The
    penalty's part is that they are small by then. Its measure is the contrast :math:`c_t`: the largest
    weight to be removed over the root mean square of those that stay. At each of 100 looks

    .. math:: \ln \lambda \leftarrow \ln \lambda + a\, e_t + 0.3\, (e_t - e_{t-1}), \qquad
              e_t = \ln (c_t / c),

    where :math:`a` is 0.05 if the contrast is too high and 0.3 if it is too low: too little penalty
    mostly costs little, because the smallest weights are removed anyway, and too much costs accuracy.
    It takes no law of how weights shrink, so it is the same for every base and depth. After :math:`u T`
    the penalty is 0, and what is left of the run trains the surviving weights free of shrinkage.

    Use it like a scheduler: ``step()`` after ``optimizer.step()``, beside a learning-rate scheduler.

    Args:
        optimizer: Its groups' penalties are the start, and keep their ratios.
        sparsity: ``s``, fraction of zeros over all factorized tensors, in (0, 1).
        total_steps: ``T``, steps of the run, at least 10.
        until: ``u``, the part of the run by which the target is reached, above 0.1 and at most 1. The
            rest is for the survivors.
        contrast: ``c``, the contrast aimed at, in (0, 1). Less asks for more penalty.
        min_nonzero_per_unit: Weights that every output unit keeps at least, its largest, whatever the
            others are: as of `~dwf_optim.sparsify`, one number or numbers by parameter name.
        min_density: Fraction of its weights that a layer keeps at least, given likewise.

    Attributes:
        last_step: How many steps were taken.
        reached_at: The step at which the target was reached; None before.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range, nothing is factorized, no weight would be left, or
            fewer than are to be kept.

    Source: the schedule is that of Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878; the
    loop is ours.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sparsity: float,
        total_steps: int,
        *,
        until: float = 0.75,
        contrast: float = 0.3,
        min_nonzero_per_unit: int | Mapping[str, int] = 0,
        min_density: float | Mapping[str, float] = 0.0,
    ) -> None:
        self.optimizer = unwrap(optimizer)
        check_sparsity(self.optimizer, sparsity)
        if total_steps < 10:
            raise ValueError(f"total_steps must be at least 10, got {total_steps}")
        if not FROM < until <= 1:
            raise ValueError(f"until is a part of the run, above {FROM} and at most 1, got {until}")
        if not 0 < contrast < 1:
            raise ValueError(f"contrast is a ratio of magnitudes, between 0 and 1, got {contrast}")
        self.sparsity, self.total_steps = sparsity, total_steps
        self.until, self.contrast = until, contrast
        self._check_groups()
        groups = self.optimizer.param_groups
        named = {find(groups, tensor)[1].name: tensor for tensor in self.optimizer.factorized()}
        least = floors(named, min_nonzero_per_unit, min_density)
        self._floors = {named[name]: floor for name, floor in least.items()}
        check_floors(self.optimizer, sparsity, self._floors)
        self.last_step = 0
        self.reached_at: int | None = None
        self._error: float | None = None

    def _check_groups(self) -> None:
        for number, group in enumerate(self.optimizer.param_groups):
            if group["penalty"] == 0 and any(factorized([group])):
                raise ValueError(
                    f"group {number} has penalty 0, which no factor changes: give it a positive one, if "
                    "only 1e-6; it is a start, and the ratio between groups is kept"
                )

    def step(self) -> None:
        """Count a step; when it is time to look, remove weights and set the penalty of the next.

        Raises:
            ValueError: After more than ``total_steps``.
        """
        if self.last_step >= self.total_steps:
            raise ValueError(f"the run was to have {self.total_steps} steps, and this is one more")
        self.last_step += 1
        if self.reached_at is not None:
            return
        start, end = FROM * self.total_steps, self.until * self.total_steps
        done = min(1.0, (self.last_step - start) / (end - start))
        every = max(1, self.total_steps // LOOKS)
        if done == 1.0 or (done > 0 and self.last_step % every == 0):
            self._look(done)

    def current_sparsity(self) -> float:
        """Return the fraction of weights that are zero."""
        weights = [whole(parameter.detach()) for parameter in self.optimizer.factorized()]
        left = sum(int(torch.count_nonzero(weight)) for weight in weights)
        return 1 - left / sum(weight.numel() for weight in weights)

    def get_last_penalty(self) -> list[float]:
        """Return the penalty of each group, as it now is."""
        return [float(group["penalty"]) for group in self.optimizer.param_groups]

    def _look(self, done: float) -> None:
        """Remove what the schedule says, and steer.

        Args:
            done: ``x_t``, how much of the schedule is over.
        """
        contrast = remove_smallest(self.optimizer, self.sparsity * (1 - (1 - done) ** 3), self._floors)
        if math.isnan(contrast):
            return  # diverged; that is for the user's loop to see
        if done == 1.0:
            self._finish(contrast)
        else:
            self._steer(contrast)

    def _steer(self, contrast: float) -> None:
        error = math.log(max(contrast, 1e-38) / self.contrast)
        error = min(max(error, -LARGEST_ERROR), LARGEST_ERROR)
        change = 0.0 if self._error is None else error - self._error
        self._error = error
        for group in self.optimizer.param_groups:
            group["penalty"] *= math.exp((UP if error > 0 else DOWN) * error + CHANGE * change)

    def _finish(self, contrast: float) -> None:
        self.reached_at = self.last_step
        for group in self.optimizer.param_groups:
            group["penalty"] = 0.0
        logger.info(
            "TargetSparsity: %.2f%% zeros at step %d of %d; the penalty is off",
            100 * self.current_sparsity(),
            self.last_step,
            self.total_steps,
        )
        if contrast > NO_CONTRAST:
            warn(
                f"TargetSparsity removed weights of up to {contrast:.0%} of the size of those that "
                f"stay, so {self.sparsity:.2%} zeros may cost accuracy: the penalty had no time to make "
                "them small; train longer, with a higher lr, or aim lower"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all but the optimizer and the floors, which are given anew."""
        return {key: value for key, value in vars(self).items() if key not in ("optimizer", "_floors")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another loop stood; the penalties themselves are in the optimizer's checkpoint.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If it is something else's, or of a run with another target or length.
        """
        if unknown := state_dict.keys() ^ self.state_dict().keys():
            raise ValueError(
                f"this is no checkpoint of a TargetSparsity: it differs in {sorted(unknown)}"
            )
        for key in ("sparsity", "total_steps", "until", "contrast"):
            if state_dict[key] != getattr(self, key):
                raise ValueError(
                    f"the checkpoint has {key} {state_dict[key]}, this one {getattr(self, key)}: a run "
                    "goes on as it began"
                )
        vars(self).update(state_dict)
