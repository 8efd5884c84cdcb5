"""What is measured of an optimizer at one step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dwf_optim.factorization import factorized
from dwf_optim.factors import factor_penalty, quasi_norm
from dwf_optim.learning_rate import FLOAT32_EPS
from dwf_optim.members import members_by_group
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.sharding import whole
from dwf_optim.storage import Storage

# |weight| that counts as zero: the paper's threshold, and what does nothing any more (docs/sparsify.md).
THRESHOLDS = (FLOAT32_EPS, 1e-4, 1e-3)


@dataclass(frozen=True)
class LayerRecord:
    """One factorized tensor.

    Attributes:
        total: Its weights.
        zeros: Of them at or below each threshold, in the order of the record's ``thresholds``. Where
            weights share gates, of those in groups whose norm is.
        weight_norm: ``||w||_2``.
        factor_norm: ``sqrt(sum_d ||f_d||^2)``, gates included.
        quasi_norm: ``||w||_{2/D}^{2/D}``, what the penalty sums up; over groups the sum of
            ``||w_j||_2^{2/D}``.
        misalignment: ``(1/D) sum_d ||f_d||^2`` less the quasi-norm; 0 where factors are balanced.
    """

    total: int
    zeros: tuple[int, ...]
    weight_norm: float
    factor_norm: float
    quasi_norm: float
    misalignment: float

    def sparsity(self, index: int = -1) -> float:
        """Return the fraction of zeros at a threshold."""
        return self.zeros[index] / self.total if self.total else 0.0


@dataclass(frozen=True)
class Record:
    """All factorized tensors at one step.

    Attributes:
        step: How many steps the monitor has seen.
        thresholds: ``|weight|`` that counts as zero; the last is the one that is plotted.
        penalties: ``lambda`` of each group.
        lrs: Of each group, as the user gave it.
        layers: By name.
        values: What the user logged beside it, as loss and accuracy.
    """

    step: int
    thresholds: tuple[float, ...]
    penalties: tuple[float, ...]
    lrs: tuple[float, ...]
    layers: Mapping[str, LayerRecord]
    values: Mapping[str, float] = field(default_factory=dict)

    def sparsity(self, index: int = -1) -> float:
        """Return the fraction of zeros over all layers at a threshold."""
        total = sum(layer.total for layer in self.layers.values())
        return sum(layer.zeros[index] for layer in self.layers.values()) / total if total else 0.0

    def compression_ratio(self, index: int = -1) -> float:
        """Return all weights over those above a threshold; inf if there is none."""
        density = 1 - self.sparsity(index)
        return 1 / density if density > 0 else math.inf

    @property
    def misalignment(self) -> float:
        """Of all layers."""
        return sum(layer.misalignment for layer in self.layers.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what is not finite becomes None, which JSON can say."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Read what `to_dict` returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            layers = {
                name: LayerRecord(**{**layer, "zeros": tuple(layer["zeros"])})
                for name, layer in data["layers"].items()
            }
            lists = {key: tuple(data[key]) for key in ("thresholds", "penalties", "lrs")}
            return cls(step=int(data["step"]), layers=layers, values=dict(data["values"]), **lists)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no record of a monitor: {error!r}") from error


@torch.no_grad()
def measure(optimizer: DWFOptimizer, step: int, thresholds: Sequence[float] = THRESHOLDS) -> Record:
    """Measure all factorized tensors that have been stepped.

    Args:
        optimizer: Left as it is.
        step: For the record.
        thresholds: ``|weight|`` that counts as zero.

    Returns:
        The record.
    """
    layers = {}
    held = dict(factorized(optimizer.param_groups))
    for _, members in members_by_group(optimizer.param_groups):
        for p, _, name in members:
            # Factors that no step has made yet are not to be made by looking.
            if p in held and optimizer.state.get(p):
                factors = [whole(factor) for factor in optimizer.factors(p)]
                layers[name] = _layer(whole(p.detach()), factors, held[p].mode, thresholds)
    groups = optimizer.param_groups
    return Record(
        step,
        tuple(thresholds),
        tuple(float(group["penalty"]) for group in groups),
        tuple(float(group["lr"]) for group in groups),
        layers,
    )


def _layer(
    weight: Tensor, factors: Sequence[Tensor], mode: Storage, thresholds: Sequence[float]
) -> LayerRecord:
    depth = len(factors)
    sizes = mode.sizes(weight)
    norm = quasi_norm(sizes.float(), depth)
    squares = factor_penalty([factor.float() for factor in factors])
    counts = torch.stack([(sizes <= threshold).sum() for threshold in thresholds])
    each = weight.numel() // max(1, sizes.numel())
    # One transfer from the device for all numbers of a layer.
    numbers = torch.stack([sizes.float().norm(), squares, norm]).tolist()
    return LayerRecord(
        total=weight.numel(),
        zeros=tuple(each * int(count) for count in counts.tolist()),
        weight_norm=numbers[0],
        factor_norm=math.sqrt(depth * numbers[1]) if numbers[1] >= 0 else math.nan,
        quasi_norm=numbers[2],
        # Rounding can take it below zero, which it is not.
        misalignment=max(0.0, numbers[1] - numbers[2]) if math.isfinite(numbers[1]) else math.nan,
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
