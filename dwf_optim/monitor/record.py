"""What is measured of an optimizer at one step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from dwf_optim.factorization import Factorization
from dwf_optim.factors import factor_penalty, quasi_norm
from dwf_optim.learning_rate import FLOAT32_EPS
from dwf_optim.members import members_by_group
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.sharding import whole
from dwf_optim.storage import Storage

# |weight| that counts as zero: the paper's threshold, and what does nothing any more (docs/sparsify.md).
THRESHOLDS = (FLOAT32_EPS, 1e-4, 1e-3)

# Elements summed up at once: on a CPU what stays in the cache, elsewhere what float32 can count.
CPU_PIECE, PIECE = 2**18, 2**24


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
        """Read what `to_dict` returned; None becomes NaN again, whatever it was.

        Raises:
            ValueError: If it is something else.
        """
        try:
            layers = {
                name: LayerRecord(**{**_numbers(layer), "zeros": tuple(layer["zeros"])})
                for name, layer in data["layers"].items()
            }
            lists = {key: tuple(map(_number, data[key])) for key in ("thresholds", "penalties", "lrs")}
            return cls(step=int(data["step"]), layers=layers, values=_numbers(data["values"]), **lists)
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
    for group, members in members_by_group(optimizer.param_groups):
        factorization = Factorization.from_group(group)
        for member in members:
            state = optimizer.state.get(member.p)
            # Factors that no step has made yet are not to be made by looking.
            if not factorization.factorizes(member.p.ndim) or state is None:
                continue
            if factorization.mode.is_in(state, factorization.depth):
                factors = [whole(factor) for factor in factorization.factors(member.p, state)]
                weight = whole(member.p.detach())
                layers[member.name] = _layer(weight, factors, factorization.mode, thresholds)
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
    if mode.by_element:
        sums = _sums(weight, factors, thresholds)
    else:
        sums = _sums_of_groups(mode.sizes(weight), weight.numel(), factors, thresholds)
    # One transfer from the device for all numbers of a layer.
    *zeros, squared_norm, squares, norm = sums.tolist()
    return LayerRecord(
        total=weight.numel(),
        zeros=tuple(map(int, zeros)),
        weight_norm=math.sqrt(squared_norm),
        factor_norm=math.sqrt(len(factors) * squares),
        quasi_norm=norm,
        # Rounding can take it below zero, which it is not.
        misalignment=max(0.0, squares - norm) if math.isfinite(squares) else math.nan,
    )


def _sums(weight: Tensor, factors: Sequence[Tensor], thresholds: Sequence[float]) -> Tensor:
    """Sum up a layer, in pieces that stay in the cache.

    Args:
        weight: Any shape and floating dtype.
        factors: Its ``D`` factors.
        thresholds: ``|weight|`` that counts as zero.

    Returns:
        ``[thresholds + 3]``, float64: the zeros at each threshold, ``||w||^2``,
        ``(1/D) sum_d ||f_d||^2``, and ``||w||_{2/D}^{2/D}``.
    """
    piece = CPU_PIECE if weight.device.type == "cpu" else PIECE
    wide = torch.promote_types(weight.dtype, torch.float32)
    rows = []
    for part, *parts in zip(*(t.reshape(-1).split(piece) for t in (weight, *factors)), strict=True):
        sizes = part.to(wide).abs()
        # Counted as numbers, because torch's kernels for booleans are many times slower on a CPU.
        mark = torch.empty_like(sizes)
        sums = [torch.le(sizes, threshold, out=mark).sum() for threshold in thresholds]
        sums += [torch.dot(tensor, tensor) for tensor in (sizes, *parts)]
        rows.append(torch.stack([*sums, _quasi_norm_(sizes, len(factors))]))
    total = torch.stack(rows).double().sum(0)
    counts, squared_norm, squares, norm = total.split([len(thresholds), 1, len(factors), 1])
    return torch.cat([counts, squared_norm, squares.mean(0, keepdim=True), norm])


def _sums_of_groups(
    sizes: Tensor, total: int, factors: Sequence[Tensor], thresholds: Sequence[float]
) -> Tensor:
    """Sum up a layer whose weights share gates, as `_sums`, by the norms of its groups."""
    sizes = sizes.double()
    each = total // max(1, sizes.numel())
    sums = [each * (sizes <= threshold).sum().double() for threshold in thresholds]
    squares = factor_penalty([factor.double() for factor in factors])
    return torch.stack([*sums, sizes.square().sum(), squares, quasi_norm(sizes, len(factors))])


def _quasi_norm_(sizes: Tensor, depth: int) -> Tensor:
    """Compute `dwf_optim.factors.quasi_norm` of magnitudes that are then of no more use."""
    if depth & (depth - 1) == 0:
        return quasi_norm(sizes, depth)
    # To a few roundings more the same, and on a CPU several times faster than a power.
    return sizes.log_().mul_(2 / depth).exp_().sum()


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
