"""What a method is: how it trains, and which units it removes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from benchmarks.structured.units import Group, Units, norms


@dataclass(frozen=True)
class Settings:
    """What a run tells its method.

    Attributes:
        lr: Learning rate.
        momentum: Of SGD.
        strength: The method's penalty; 0 where it has none.
        seed: Of whatever it draws.
    """

    lr: float
    momentum: float
    strength: float
    seed: int


class Method:
    """Dense training, and the base of all methods: the units of the smallest norms are removed.

    Attributes:
        title: In tables.
        source: The paper.
        finetunes: Whether the last epochs of a run are spent on what is left.
        finetune_rates: What parts of the learning rate fine-tuning starts from, one run each. A penalty
            on groups leaves few units with large weights, which the whole rate blows up.
    """

    title: ClassVar[str] = "dense, cut by norm"
    source: ClassVar[str] = ""
    finetunes: ClassVar[bool] = False
    finetune_rates: ClassVar[tuple[float, ...]] = (1.0, 0.1)

    def __init__(self, units: Sequence[Units], settings: Settings) -> None:
        self.units, self.settings = units, settings

    @classmethod
    def lacks(cls, units: Sequence[Units]) -> str | None:
        """Say what a network does not have that the method needs."""
        return None

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Make the optimizer that trains a model, penalty included."""
        return SGD(model.parameters(), lr=self.settings.lr, momentum=self.settings.momentum)

    def groups(self) -> list[Group]:
        """List what is zeroed to remove units, one for each layer."""
        return [unit.gated for unit in self.units]

    def scores(self, model: nn.Module) -> list[Tensor]:
        """Rate the units of each layer, ``[units]``; the lowest of all layers are removed first."""
        return [norms(model, group) for group in self.groups()]
