"""What a step backend is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dwf_optim.state import State


@dataclass
class Slot:
    """One factorized weight, or a block of one, at one step.

    Attributes:
        weight: The model's parameter; it receives the product.
        grad: Gradient of the loss by the weight, same shape.
        factors: ``D`` tensors of that shape in float32 or wider, updated in place.
        states: One dict per factor, as the base keeps it; updated in place.
    """

    weight: Tensor
    grad: Tensor
    factors: list[Tensor]
    states: list[State]


@dataclass(frozen=True)
class StepOptions:
    """What the slots of one group have in common.

    Attributes:
        base: The base's group options, with ``lr`` in factor space and no weight decay.
        penalty: ``lambda``, negative where the base maximizes.
        flush: Whether weights killed by underflow become exact zeros.
        write: False at a learning rate of 0: base state advances as the base's own would, factors
            and weights are not written.
    """

    base: dict[str, Any]
    penalty: float
    flush: bool
    write: bool
