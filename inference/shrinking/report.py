"""What `inference.shrink` did: weights before and after, and what could not go."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from inference.certificate import Certificate
from inference.graph import Shape
from inference.report_text import plain_table, rich_table


@dataclass(frozen=True)
class ShrunkWeight:
    """A parameter of two or more dimensions.

    Attributes:
        name: As in the state_dict.
        before: Its shape.
        after: Its shape in the smaller model.
    """

    name: str
    before: Shape
    after: Shape


@dataclass(frozen=True)
class Stuck:
    """Dead units that are still there.

    Attributes:
        name: Of the layer.
        what: "outputs", "inputs" or "heads".
        count: How many.
        reason: Why they stay.
    """

    name: str
    what: str
    count: int
    reason: str

    def __str__(self) -> str:
        what = self.what if self.count > 1 else self.what.removesuffix("s")
        return f"{self.name}: {self.count} dead {what} kept ({self.reason})"


@dataclass(frozen=True)
class ShrinkReport:
    """What was made smaller. Printed, it is a table; rich prints it as one of its own.

    Attributes:
        weights: All parameters of two or more dimensions.
        stuck: What could not go, and why.
        parameters: Elements of all parameters, before and after.
        flops: Of one example, before and after, as `torch.utils.flop_counter` counts them; None if
            the models were not compared.
        certificate: The smaller model against the model, both computed in float64; None likewise.
    """

    weights: tuple[ShrunkWeight, ...]
    stuck: tuple[Stuck, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int] | None
    certificate: Certificate | None

    def notes(self) -> list[str]:
        """Return the lines below the table."""
        counts = {"parameters": self.parameters, "FLOPs": self.flops}
        lines = [
            f"{name}: {before} before, {after} after ({before / max(1, after):.2f}x)"
            for name, (before, after) in ((n, pair) for n, pair in counts.items() if pair)
        ]
        seen = self.certificate
        lines.append(f"model and smaller model {seen}" if seen else "not compared with the model")
        return [*lines, *map(str, self.stuck)]

    def __str__(self) -> str:
        return "\n".join([plain_table(self._rows()), *self.notes()])

    def __rich__(self) -> Any:
        return rich_table(self._rows(), self.notes())

    def to_json(self) -> dict[str, Any]:
        """Return it as lists, numbers and strings."""
        found = dataclasses.asdict(self)
        found["weights"] = [
            {**weight, "before": [*weight["before"]], "after": [*weight["after"]]}
            for weight in found["weights"]
        ]
        found["certificate"] = self.certificate and self.certificate._asdict()
        return found

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("weight", "before", "after")]
        for weight in self.weights:
            before, after = ("x".join(map(str, shape)) for shape in (weight.before, weight.after))
            rows.append((weight.name, before, after))
        return rows
