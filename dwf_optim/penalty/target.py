"""A closed loop that steers the penalty to a target sparsity."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.factorization import factorized
from dwf_optim.notify import warn
from dwf_optim.sharding import whole
from dwf_optim.unwrap import unwrap

logger = logging.getLogger(__name__)

# |weight| that counts as zero: far above float32's eps, where few weights arrive in an ordinary run
# (benchmarks/results/mnist.jsonl has the compression of every run at both).
COLLAPSIBLE = 1e-3
# The loop looks so often in a run, and oftener when the target is near.
LOOKS = 500
# Most that the penalty's logarithm moves between two looks. Up slowly: what the penalty kills stays
# dead. Down fast.
UP, DOWN = 0.15, 1.0
# Weight of the newest measurement in the running mean of the response.
NEWEST = 0.3
# Response below which the law is not believed: weights at the rank resist for a while, and then
# give way at once.
LEAST_RESPONSE = 0.1
# The loop aims this much (of the logarithm) below the threshold: aiming at it, it would come ever
# closer and not arrive.
BEYOND = 0.5
# Part of the run that is left at least, in planning, when the planned end is near or over.
LEAST_HORIZON = 0.05


class TargetSparsity:
    r"""Steer the penalty so that a target sparsity is reached, without choosing lambda.

    The weight that stands at the target's rank in the order of magnitudes, :math:`q`, has to come
    down to the threshold :math:`\tau` by the step :math:`t_1 = u T`. Without gradient it would shrink by
    :math:`2 \lambda \eta` a step (its logarithm), so at each look the loop sets

    .. math:: \lambda = \frac{\ln (q / \tau) + 0.5}{2 \, \rho \, \bar\eta \, (t_1 - t)}

    where :math:`\bar\eta` is the factor-space rate since the last look and :math:`\rho` the
    measured response, the part of that speed that the weight really had: gradients resist, and
    Adam-type bases follow no such law. Once the target is reached the weights at or below the
    threshold become zero for good, with factors and state, and the penalty goes to 0: what is left
    of the run trains the surviving weights free of shrinkage.

    Use it like a scheduler: ``step()`` after ``optimizer.step()``, beside a learning-rate scheduler.

    Args:
        optimizer: Its groups' penalties are the start, and keep their ratios.
        sparsity: Fraction of zeros over all factorized tensors, in (0, 1).
        total_steps: ``T``, steps of the run, at least 10.
        until: ``u``, the part of the run by which the target is reached, in (0, 1]. The rest is for the
            survivors.
        threshold: ``tau``, ``|weight|`` that counts as zero.

    Attributes:
        last_step: How many steps were taken.
        reached_at: The step at which the target was reached; None before.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range, or nothing is factorized.

    Source: the decay law is derived in docs/maths.md; the loop is ours.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sparsity: float,
        total_steps: int,
        *,
        until: float = 0.75,
        threshold: float = COLLAPSIBLE,
    ) -> None:
        if not 0 < sparsity < 1:
            raise ValueError(
                f"sparsity is the fraction of zeros, between 0 and 1, got {sparsity}; 98 % is 0.98"
            )
        if total_steps < 10:
            raise ValueError(f"total_steps must be at least 10, got {total_steps}")
        if not 0 < until <= 1:
            raise ValueError(f"until is a part of the run, above 0 and at most 1, got {until}")
        if not 0 < threshold < math.inf:
            raise ValueError(f"threshold must be finite and above 0, got {threshold}")
        self.optimizer = unwrap(optimizer)
        self._check_groups()
        self.sparsity, self.total_steps = sparsity, total_steps
        self.until, self.threshold = until, threshold
        self.last_step = 0
        self.reached_at: int | None = None
        self._next_look = 0
        self._looked_at = 0
        self._log_magnitude: float | None = None
        self._sums = (0.0, 0.0)
        self._response = 1.0

    def _check_groups(self) -> None:
        if not any(True for _ in self.optimizer.factorized()):
            raise ValueError(
                "the optimizer factorizes no tensor, so none becomes sparse: give depth >= 2, and "
                "weights of 2 dimensions or more"
            )
        for number, group in enumerate(self.optimizer.param_groups):
            if group["depth"] > 1 and group["penalty"] == 0:
                raise ValueError(
                    f"group {number} has penalty 0, which no factor changes: give it a positive one, if "
                    "only 1e-6; it is a start, and the ratio between groups is kept"
                )

    def step(self) -> None:
        """Count a step, and set the penalty of the next when it is time to look.

        Raises:
            ValueError: After more than ``total_steps``.
        """
        if self.last_step >= self.total_steps:
            raise ValueError(f"the run was to have {self.total_steps} steps, and this is one more")
        self.last_step += 1
        if self.reached_at is None and self.last_step >= self._next_look:
            self._look()
        if self.reached_at is None and self.last_step == self.total_steps:
            warn(
                f"TargetSparsity ends at {self.current_sparsity():.2%} zeros of {self.sparsity:.2%} "
                "asked for: train longer, with a higher lr, or aim lower"
            )

    def current_sparsity(self) -> float:
        """Return the fraction of weights at or below the threshold."""
        small = total = 0
        for tensor in self._sizes():
            small += int((tensor <= self.threshold).sum())
            total += tensor.numel()
        return small / total

    def get_last_penalty(self) -> list[float]:
        """Return the penalty of each group, as it now is."""
        return [float(group["penalty"]) for group in self.optimizer.param_groups]

    @torch.no_grad()
    def _look(self) -> None:
        """Measure where the weight at the target's rank is, and how fast it moves."""
        magnitude = self._magnitude_at_rank()
        if not math.isfinite(magnitude):
            return  # diverged; that is for the user's loop to see
        log_magnitude = math.log(max(magnitude, 1e-38))
        sums = self._travelled()
        steps = self.last_step - self._looked_at
        travelled, decayed = (new - old for new, old in zip(sums, self._sums, strict=True))
        speed = 0.0
        if self._log_magnitude is not None and decayed > 0:
            fallen = self._log_magnitude - log_magnitude
            measured = max(fallen / (2 * decayed), LEAST_RESPONSE)
            self._response += NEWEST * (measured - self._response)
            speed = fallen / steps
        first = self._log_magnitude is None
        self._log_magnitude, self._sums, self._looked_at = log_magnitude, sums, self.last_step
        missing = log_magnitude - math.log(self.threshold)
        if missing <= 0:
            self._finish()
            return
        if travelled > 0 and decayed > 0:
            self._aim(missing, travelled / steps, decayed / travelled, steps, first)
        every = max(1, self.total_steps // LOOKS)
        # A weight that falls fast must not fall past the threshold, and many others with it.
        soon = math.floor(missing / speed / 4) if speed > 0 else every
        self._next_look = self.last_step + max(1, min(every, soon))

    def _aim(self, missing: float, rate: float, penalty: float, steps: int, first: bool) -> None:
        """Set the penalty by the law.

        Args:
            missing: ``ln(q / tau)``.
            rate: Mean factor-space rate a step.
            penalty: Mean penalty since the last look.
            steps: Since then.
            first: Whether nothing is known yet, so that the start counts for nothing.
        """
        horizon = max(self.until * self.total_steps - self.last_step, LEAST_HORIZON * self.total_steps)
        change = math.log((missing + BEYOND) / (2 * self._response * rate * horizon * penalty))
        if not first:
            every = max(1, self.total_steps // LOOKS)
            change = min(max(change, -DOWN), UP * steps / every)
        for group in self.optimizer.param_groups:
            group["penalty"] *= math.exp(change)

    def _finish(self) -> None:
        self.reached_at = self.last_step
        parameters = list(self.optimizer.factorized())
        for parameter, sizes in zip(parameters, self._sizes(), strict=True):
            self.optimizer.zero_(parameter, sizes <= self.threshold)
        for group in self.optimizer.param_groups:
            group["penalty"] = 0.0
        logger.info(
            "TargetSparsity: %.2f%% zeros at step %d of %d; the penalty is off",
            100 * self.current_sparsity(),
            self.last_step,
            self.total_steps,
        )

    def _sizes(self) -> list[Tensor]:
        """Return for each weight its magnitude; the norm of its group where weights share gates."""
        held = factorized(self.optimizer.param_groups)
        modes = [(whole(p.detach()), factorization.mode) for p, factorization in held]
        return [mode.of_each(mode.sizes(weight), weight.shape) for weight, mode in modes]

    def _magnitude_at_rank(self) -> float:
        flat = torch.cat([sizes.flatten().float() for sizes in self._sizes()])
        rank = min(max(1, math.ceil(self.sparsity * flat.numel() - 1e-9)), flat.numel())
        return float(flat.kthvalue(rank).values)

    def _travelled(self) -> tuple[float, float]:
        """Return the rates and the decay summed up so far, mean over groups by their weights."""
        total = rates = decay = 0.0
        for group in self.optimizer.param_groups:
            if group["depth"] < 2:
                continue
            count = sum(p.numel() for p in group["params"] if p.ndim >= group["min_ndim"])
            total += count
            rates += count * group["lr_sum"]
            decay += count * group["penalty_sum"]
        return rates / total, decay / total

    def state_dict(self) -> dict[str, Any]:
        """Return all but the optimizer."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

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
        for key in ("sparsity", "total_steps", "until", "threshold"):
            if state_dict[key] != getattr(self, key):
                raise ValueError(
                    f"the checkpoint has {key} {state_dict[key]}, this one {getattr(self, key)}: a run "
                    "goes on as it began"
                )
        vars(self).update(state_dict)
