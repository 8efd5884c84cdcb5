"""Nothing is kept: the root is taken from the weight at every step, and the base's state is the root's.

A step moves the root from ``r`` to ``r'`` and the weight by the ratio, ``w' = w (r'/r)^D``. So the
rounding of the root is felt in the size of a move only, and a weight that does not move keeps its bits.
At even depth the root is always taken positive; where a step leaves it negative, the base's odd state is
mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from dwf_optim.base import Engine
from dwf_optim.factors import flush_dead, product, zero_where
from dwf_optim.roots import balanced_factors, root_of
from dwf_optim.sharding import local, place
from dwf_optim.state import State, elementwise
from dwf_optim.storage.parity import mirror_
from dwf_optim.storage.rooted import Rooted

_BASES = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_DTYPES = (torch.float32, torch.float64)


class Ephemeral(Rooted):
    """What `Tied` does, without the root: the weight is all there is."""

    name = "ephemeral"

    @override
    def check_base(self, engine: Engine) -> None:
        # A subclass may keep more than its parent.
        if engine.base not in _BASES:
            raise ValueError(
                f"storage='ephemeral' does not know what {engine.base.__name__} keeps and how that "
                f"changes where a weight crosses zero: use one of {[base.__name__ for base in _BASES]} "
                "as they are in torch.optim, or storage='tied'"
            )

    @override
    def check_dtype(self, dtype: torch.dtype) -> None:
        if dtype not in _DTYPES:
            raise TypeError(
                f"storage='ephemeral' takes the root from the weight, in which {dtype} would lose "
                "small steps: keep the weights in float32 (autocast for the forward pass), or use "
                "storage='tied'"
            )

    @override
    def keys(self, depth: int) -> list[str]:
        return []

    @override
    def make(
        self, p: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
    ) -> list[Tensor]:
        return []

    @override
    def factors(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        part = local(weight).detach()
        return [place(f, weight) for f in balanced_factors(root_of(part, depth), part, depth)]

    @override
    def product(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> Tensor:
        return weight

    @override
    def match(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        return []

    @override
    def stepped(
        self, kept: Sequence[Tensor], weight: Tensor, depth: int, states: Sequence[State]
    ) -> list[Tensor]:
        state = elementwise(states[0])
        # A zero is one for good, whoever wrote it, also if the base still had momentum.
        zero_where(weight == 0, state)
        # A base's fused kernel walks raw memory, so the root must lie there as the state does.
        shaped = (v for v in state if isinstance(v, Tensor) and v.shape == weight.shape)
        root = torch.empty_like(next(shaped, weight))
        return [root.copy_(root_of(weight, depth))]

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
        root, state = stepped[0], states[0]
        if flush:
            flush_dead([root] * depth, elementwise(state), scratch)
        # Zeros have no ratio, and root and weight are zero there.
        ratio = root / root_of(weight, depth).masked_fill_(weight == 0, 1)
        if depth % 2 == 0:
            mirror_(state, ratio < 0)
        product([weight, *[ratio] * depth], out=weight)
