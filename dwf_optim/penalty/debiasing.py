"""The last phase of a run: the support is fixed and the penalty off, so nothing shrinks any more."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from dwf_optim.penalty.removal import check_sparsity, remove_smallest
from dwf_optim.penalty.schedule import PenaltyScheduler
from dwf_optim.sharding import whole
from dwf_optim.unwrap import unwrap


def debias(optimizer: Optimizer) -> None:
    """Fix the support and switch the penalty off; then train on as before.

    The penalty that makes weights zero also shrinks the others. Once `dwf_optim.sparsify` has made its
    zeros it has nothing left to do. Every weight that is zero stays zero, by whoever it was
    zeroed, and every group's ``penalty`` becomes 0. Both are in the optimizer's checkpoint, so a run
    goes on debiased when it is loaded. ``benchmarks/results/debias.md`` has the gain.

    Args:
        optimizer: A `~dwf_optim.DWFOptimizer`, as it is or in Accelerate's wrapper.

    Raises:
        TypeError: If it is another optimizer.
        ValueError: If no factorized weight is zero: there is no support to fix.
    """
    optimizer = unwrap(optimizer)
    masks = {parameter: whole(parameter.detach()) == 0 for parameter in optimizer.factorized()}
    if not any(bool(mask.any()) for mask in masks.values()):
        raise ValueError(
            "no factorized weight is zero, so there is no support to fix: sparsify(model, optimizer, "
            "...) first"
        )
    for parameter, mask in masks.items():
        optimizer.zero_(parameter, mask)
    for group in optimizer.param_groups:
        group["penalty"] = 0.0


class Debias(PenaltyScheduler):
    """Cut to a sparsity at a given step and debias from there on: `~dwf_optim.debias` as a phase.

    Before, it leaves the penalty to whoever sets it; step it after any other penalty scheduler.

    Args:
        optimizer: As of `~dwf_optim.penalty.PenaltyScheduler`.
        start: After how many steps the phase begins, at least 1.
        sparsity: Fraction of zeros over all factorized tensors that the smallest weights are cut to.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range, nothing is factorized, or no weight would be left.
    """

    def __init__(self, optimizer: Optimizer, start: int, sparsity: float) -> None:
        if start < 1:
            raise ValueError(f"start must be at least 1, got {start}")
        check_sparsity(unwrap(optimizer), sparsity)
        self.start, self.sparsity = start, sparsity
        super().__init__(optimizer)

    def _set(self) -> None:
        if self.last_step == self.start:
            remove_smallest(self.optimizer, self.sparsity)
        if self.last_step >= self.start:
            for group in self.optimizer.param_groups:
                group["penalty"] = 0.0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another phase of the same start and sparsity stood.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If it is another scheduler's, or begins elsewhere.
        """
        for key in ("start", "sparsity"):
            if key in state_dict and state_dict[key] != getattr(self, key):
                raise ValueError(
                    f"the checkpoint has {key} {state_dict[key]}, this one {getattr(self, key)}: a run "
                    "goes on as it began"
                )
        super().load_state_dict(state_dict)
