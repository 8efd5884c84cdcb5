"""Layers that the penalty is about to empty, during training."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.factorization import Factorization
from dwf_optim.members import members_by_group
from dwf_optim.protection import Floor, floors
from dwf_optim.sharding import whole
from dwf_optim.unwrap import unwrap

logger = logging.getLogger(__name__)

# |weight| that counts as nearly gone: above what collapses (1e-3), because momentum carries weights on
# when the penalty is off.
FADING = 1e-2


class LayerGuard:
    """Take the penalty off a group, for good, as soon as one of its layers is down to a floor.

    What `~dwf_optim.sparsify` keeps after training can be too late: in a layer that the penalty has
    emptied there is nothing left worth keeping, and a network without it learns nothing. Use it like a
    scheduler: ``step()`` after ``optimizer.step()`` and after any penalty scheduler. Layers are held
    alone where they are groups alone: ``param_groups(..., per_layer=True)``. Without its penalty a held
    layer does not get sparser, and many of its weights grow again.

    Args:
        optimizer: A `~dwf_optim.DWFOptimizer`, or Accelerate's wrapper of one.
        min_nonzero_per_unit: As of `~dwf_optim.sparsify`, of weights above the threshold.
        min_density: As of `~dwf_optim.sparsify`, likewise.
        threshold: ``|weight|`` that counts as gone. Momentum carries weights on after the penalty is
            off, so this lies above what is to be collapsed in the end.
        every: Steps between two looks, at least 1.

    Attributes:
        last_step: How many steps were taken.
        held: The layers that were down to their floor, by name, and the step when it was seen.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range, a name unknown, or no layer has a floor.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        min_nonzero_per_unit: int | Mapping[str, int] = 0,
        min_density: float | Mapping[str, float] = 0.0,
        threshold: float = FADING,
        every: int = 10,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if not 0 <= threshold < math.inf:
            raise ValueError(f"threshold must be finite and >= 0, got {threshold}")
        self.optimizer = unwrap(optimizer)
        self.threshold, self.every = threshold, every
        names = [name for _, name, _ in self._layers()]
        self._floors = floors(names, min_nonzero_per_unit, min_density)
        if all(floor == Floor() for floor in self._floors.values()):
            raise ValueError(
                "no layer has a floor, so there is nothing to guard: give min_density (0.001 is a "
                "thousandth of each layer), or min_nonzero_per_unit"
            )
        self.last_step = 0
        self.held: dict[str, int] = {}
        self._groups: list[int] = []

    def step(self) -> None:
        """Count a step, look when it is time, and keep the penalty of held groups at 0."""
        self.last_step += 1
        if self.last_step % self.every == 0:
            self._look()
        for number in self._groups:
            self.optimizer.param_groups[number]["penalty"] = 0.0

    @torch.no_grad()
    def _look(self) -> None:
        for number, name, weight in self._layers():
            floor = self._floors.get(name, Floor())
            if number in self._groups or not self._is_down(whole(weight.detach()), floor):
                continue
            self._groups.append(number)
            self.held[name] = self.last_step
            logger.warning(
                "%s is down to its floor at step %d: the penalty of its group, number %d, is off",
                name,
                self.last_step,
                number,
            )

    def _is_down(self, weight: Tensor, floor: Floor) -> bool:
        above = (weight.abs() > self.threshold).reshape(len(weight), -1).sum(1)
        least = math.ceil(floor.density * weight.numel() - 1e-9)
        in_layer = least > 0 and int(above.sum()) <= least
        return in_layer or (floor.nonzero_per_unit > 0 and bool((above <= floor.nonzero_per_unit).any()))

    def _layers(self) -> list[tuple[int, str, Tensor]]:
        """Return group number, name and weight of every factorized layer that has weights."""
        groups = self.optimizer.param_groups
        return [
            (number, member.name, member.p)
            for number, (group, members) in enumerate(members_by_group(groups))
            for member in members
            if Factorization.from_group(group).factorizes(member.p.ndim)
            if member.p.ndim > 0 and member.p.numel() > 0
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return what the guard has seen; what it guards is given anew."""
        return {"last_step": self.last_step, "held": dict(self.held), "groups": list(self._groups)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another guard of the same optimizer stood.

        Args:
            state_dict: From ``state_dict()``.

        Raises:
            ValueError: If it is something else's, or of an optimizer with other groups.
        """
        if unknown := state_dict.keys() ^ self.state_dict().keys():
            raise ValueError(f"this is no checkpoint of a LayerGuard: it differs in {sorted(unknown)}")
        if beyond := [n for n in state_dict["groups"] if n >= len(self.optimizer.param_groups)]:
            raise ValueError(
                f"the checkpoint holds groups {beyond}, the optimizer has "
                f"{len(self.optimizer.param_groups)}"
            )
        self.last_step, self.held = state_dict["last_step"], dict(state_dict["held"])
        self._groups = list(state_dict["groups"])
