"""What a step backend is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dwf_optim.state import State
from dwf_optim.storage import Storage


@dataclass
class Slot:
    """One factorized weight, or a block of one, at one step.

    Attributes:
        weight: The model's parameter; it receives the product.
        grad: Gradient of the loss by the weight, same shape.
        kept: What the storage keeps of the factors: tensors of that shape in float32 or wider, updated
            in place.
        states: One dict for each part that the base steps, as the base keeps it; updated in place.
    """

    weight: Tensor
    grad: Tensor
    kept: list[Tensor]
    states: list[State]


@dataclass(frozen=True)
class StepOptions:
    """What the slots of one group have in common.

    Attributes:
        base: The base's group options, with ``lr`` in factor space and no weight decay.
        depth: ``D``.
        mode: The way factors are kept.
        penalty: ``lambda``, negative where the base maximizes.
        flush: Whether weights killed by underflow become exact zeros.
        write: False at a learning rate of 0: base state advances as the base's own would, factors
            and weights are not written.
    """

    base: dict[str, Any]
    depth: int
    mode: Storage
    penalty: float
    flush: bool
    write: bool
