"""Which kernel each layer gets, for the batch sizes that matter.

`static_plan` reads the weights alone: the same everywhere. `inference.measure` takes the time on this
machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Choice:
    """What is used at one batch size.

    Attributes:
        native: Whether the engine runs the layers it has kernels for; False where torch was faster.
        kernels: Kernel of layers with weights, by the layer's name; one that is missing gets what its
            sparsity suggests.
    """

    native: bool = True
    kernels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Choices by batch size.

    Attributes:
        source: "measured" or "static".
        choices: By the batch size that they were made for, in rising order.
        machine: On which they were measured; empty for a static plan.
    """

    source: str
    choices: Mapping[int, Choice]
    machine: str = ""

    def __post_init__(self) -> None:
        if not self.choices or any(size < 1 for size in self.choices):
            raise ValueError(f"a plan is for batch sizes of 1 and more, got {sorted(self.choices)}")

    def nearest(self, batch: int) -> int:
        """Return which of the plan's batch sizes a batch is closest to, by ratio."""
        return min(self.choices, key=lambda size: max(size, batch) / max(1, min(size, batch)))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as lists, numbers and strings."""
        choices = {
            str(size): {"native": choice.native, "kernels": dict(choice.kernels)}
            for size, choice in self.choices.items()
        }
        return {"source": self.source, "machine": self.machine, "choices": choices}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `to_json` returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            choices = {
                int(size): Choice(
                    bool(choice["native"]), {str(k): str(v) for k, v in choice["kernels"].items()}
                )
                for size, choice in data["choices"].items()
            }
            return cls(str(data["source"]), choices, str(data.get("machine", "")))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no plan: {data!r}") from error


def static_plan(batch_sizes: Sequence[int]) -> Plan:
    """Return the plan that leaves every choice to the weights.

    Args:
        batch_sizes: At least one.
    """
    return Plan("static", {size: Choice() for size in sorted(set(batch_sizes))})
