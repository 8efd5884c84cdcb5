"""One full factor and ``D - 1`` gates a group are kept: structured factorization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from dwf_optim.convert import check_convertible, convert_to_gates
from dwf_optim.factors import zero_where
from dwf_optim.gates import (
    dead_groups,
    gate_gradients,
    gated,
    group_max,
    group_norms,
    rebalance,
)
from dwf_optim.learning_rate import BaseKind
from dwf_optim.sharding import local, place, whole
from dwf_optim.state import OMEGA, Part, State, elementwise, gate_key
from dwf_optim.storage.mode import Storage
from dwf_optim.structure import grouping_of


class Gated(Storage):
    """Groups of weights with one full factor and gates that they share (`dwf_optim.gates`).

    Gates are cut like their weight where its shards do not cut through groups; other shards are refused.

    Args:
        structure: Which elements share a gate.
        weigh_by_size: Whether a group's penalty is multiplied by the root of its number of elements.
    """

    name = "full"
    default_init = "preserve"
    one_init = "starts with the weight itself and gates of 1"
    # The full factor is zero then, the gates are 1: it trains.
    all_zero = None
    by_element = False

    def __init__(self, structure: str | tuple[str | int, ...], weigh_by_size: bool) -> None:
        self.structure = structure
        self.weigh_by_size = weigh_by_size
        self._grouping = grouping_of(structure)

    @override
    def check(self, p: Tensor) -> None:
        self._grouping.check(p, self.structure)

    @override
    def lr_scale(self, depth: int, kind: BaseKind, spread: float) -> float:
        # At gates of 1 a step in omega is the dense step, and later the reference weight of
        # `learning_rate.auto_lr_scale` is a whole group's norm, which is near 1 (docs/structured.md).
        return 1.0

    # ------------------------------------------------------------------ in the state

    @override
    def keys(self, depth: int) -> list[str]:
        return [str(part) for part in self.parts(depth)]

    @override
    def parts(self, depth: int) -> Sequence[Part]:
        return [OMEGA, *(gate_key(d) for d in range(depth - 1))]

    @override
    def make(
        self, p: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
    ) -> list[Tensor]:
        part = local(p).detach()
        dtype = torch.promote_types(p.dtype, torch.float32)
        omega = torch.empty_like(part, dtype=dtype).copy_(part)
        gate = part.new_ones(self._grouping.gate_shape(part.shape), dtype=dtype)
        if sigma > 0:
            # Groups that are zero were pruned, and stay so; a tensor that is all zero was not.
            gate.masked_fill_(group_max(self._view(omega), gate) == 0, 0)
        shape = self._grouping.gate_shape(p.shape)
        gates = [place(gate.clone(), p, shape) for _ in range(depth - 1)]
        return [place(omega, p), *gates]

    # ------------------------------------------------------------------ and the weight

    @override
    def factors(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        return list(kept)

    @override
    def product(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> Tensor:
        return gated(self._view(kept[0]), kept[1:]).reshape(kept[0].shape)

    @override
    def match(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        omega, *gates = rebalance(self._view(kept[0]), kept[1:], self._view(weight))
        return [omega.reshape(weight.shape), *gates]

    @override
    def take_over(
        self,
        kept: Sequence[Tensor],
        state: State,
        weight: Tensor,
        depth: int,
        changed: Tensor,
    ) -> None:
        touched = group_max(self._view(changed.to(kept[0].dtype)), kept[1]) > 0
        for tensor, value in zip(kept, self.match(kept, weight, depth), strict=True):
            mask = touched if tensor.shape == touched.shape else self.of_each(touched, tensor.shape)
            tensor.copy_(torch.where(mask, value, tensor))
        self._clear(changed & (weight == 0), state, kept)

    @override
    def sizes(self, weight: Tensor) -> Tensor:
        gate = weight.new_empty(self._grouping.gate_shape(weight.shape))
        return group_norms(self._view(weight), gate)

    @override
    def of_each(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        view = self._view(torch.empty(shape, device="meta")).shape
        return values.expand(view).reshape(shape)

    @override
    def zero_(self, kept: Sequence[Tensor], state: State, weight: Tensor, mask: Tensor) -> None:
        self._clear(mask, state, kept)

    @override
    def check_mask(self, weight: Tensor, mask: Tensor) -> None:
        weight = whole(weight.detach())
        mask = whole(mask).to(weight.device)
        gate = torch.empty(self._grouping.gate_shape(weight.shape), device=weight.device)
        touched, left = (
            group_max(self._view((part & (weight != 0)).float()), gate) > 0 for part in (mask, ~mask)
        )
        if bool((touched & left).any()):
            raise ValueError(
                f"the mask covers {int((touched & left).sum())} groups of structure="
                f"{self.structure!r} in part: single weights of a group come back with the next "
                "gradient, so mask whole groups"
            )

    @override
    def check_convertible(self, base: type[Optimizer], state: State, shape: torch.Size) -> None:
        check_convertible(base, state, shape, to_gates=True)

    @override
    def convert(self, base: type[Optimizer], state: State, kept: Sequence[Tensor]) -> list[State]:
        omega, *gates = kept
        viewed = {
            key: self._view(value) if isinstance(value, Tensor) and value.shape == omega.shape else value
            for key, value in state.items()
        }
        first, *others = convert_to_gates(base, viewed, self._view(omega), gates)
        shaped = self._view(omega).shape
        flat = {
            key: value.reshape(omega.shape)
            if isinstance(value, Tensor) and value.shape == shaped
            else value
            for key, value in first.items()
        }
        return [flat, *others]

    # ------------------------------------------------------------------ in a step

    @override
    def gradients(
        self,
        stepped: Sequence[Tensor],
        weight: Tensor,
        grad: Tensor,
        penalty: float,
        depth: int,
        out: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        omega, *gates = stepped
        # Laid out like omega, because a base's fused kernel walks both in the order of memory.
        room = torch.empty_like(omega)
        if self.weigh_by_size and gates[0].numel():
            penalty *= math.sqrt(omega.numel() / gates[0].numel())
        _, *of_gates = gate_gradients(
            self._view(omega), gates, self._view(grad), penalty, self._view(room)
        )
        return [room, *of_gates]

    @override
    def finish(
        self,
        stepped: Sequence[Tensor],
        weight: Tensor,
        depth: int,
        states: Sequence[State],
        flush: bool,
        scratch: Tensor | None = None,
    ) -> None:
        omega, *gates = stepped
        if flush and (dead := dead_groups(self._view(omega), gates)) is not None:
            values = [value for state in states for value in elementwise(state)]
            zero_where(dead, [*gates, *values])
            zero_where(self.of_each(dead, omega.shape), [omega, *values])
        if weight.dtype == omega.dtype:
            gated(self._view(omega), gates, out=self._view(weight))
        else:
            weight.copy_(self.product(stepped, weight, depth))

    def _view(self, tensor: Tensor) -> Tensor:
        return self._grouping.view(tensor)

    def _clear(self, mask: Tensor, state: State, kept: Sequence[Tensor]) -> None:
        """Zero masked elements with their state, and the gates of groups that have no others."""
        values = elementwise(state)
        zero_where(mask, values)
        omega, *gates = kept
        emptied = group_max(self._view(mask.to(omega.dtype)), gates[0]) > 0
        zero_where(emptied & (group_max(self._view(omega), gates[0]) == 0), values)
