"""Every factor is kept, and the base's state of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from dwf_optim.factors import factor_gradients, flush_dead, match, product
from dwf_optim.init import factorize
from dwf_optim.state import Part, State, elementwise, factor_key
from dwf_optim.storage.mode import Storage


class Full(Storage):
    """``D`` factors a weight: any start, any elementwise base, any dtype."""

    name = "full"
    default_init = "preserve"
    one_init = None
    all_zero = (
        "which factors cannot leave by themselves: one factor starts at zero and the others do not, so "
        "that it trains"
    )

    @override
    def keys(self, depth: int) -> list[str]:
        return [factor_key(d) for d in range(depth)]

    @override
    def parts(self, depth: int) -> Sequence[Part]:
        return range(depth)

    @override
    def make(
        self, p: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
    ) -> list[Tensor]:
        return factorize(p, init, depth, sigma, generator)

    @override
    def factors(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        return list(kept)

    @override
    def product(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> Tensor:
        return product(kept)

    @override
    def match(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        return match(kept, weight)

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
        return factor_gradients(stepped, grad, penalty, out=out)

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
        if flush:
            flush_dead(stepped, [value for state in states for value in elementwise(state)], scratch)
        if weight.dtype == stepped[0].dtype:
            product(stepped, out=weight)
        else:
            weight.copy_(product(stepped, out=scratch))
