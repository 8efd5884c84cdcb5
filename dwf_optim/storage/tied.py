"""One root per weight is kept, and the base's state of it: balanced factors at the price of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from dwf_optim.base import Engine
from dwf_optim.factors import flush_dead
from dwf_optim.roots import balanced_factors, nearest_root, power
from dwf_optim.sharding import local, place
from dwf_optim.state import ROOT, State, elementwise
from dwf_optim.storage.rooted import Rooted


class Tied(Rooted):
    """The root of `dwf_optim.roots`: what ``init="balanced"`` does with every factor kept."""

    name = "tied"

    @override
    def check_base(self, engine: Engine) -> None:
        if not engine.is_odd():
            raise ValueError(
                f"{engine.base.__name__} cannot step one root for all factors: it does not step -f and "
                "-g as the mirror image of f and g, so balanced factors of unlike sign would part; use "
                "storage='full'"
            )

    @override
    def keys(self, depth: int) -> list[str]:
        return [ROOT]

    @override
    def make(
        self, p: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
    ) -> list[Tensor]:
        part = local(p)
        root = torch.empty_like(part, dtype=torch.promote_types(p.dtype, torch.float32))
        return [place(root.copy_(nearest_root(part, depth)), p)]

    @override
    def factors(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        factors = balanced_factors(local(kept[0]), local(weight), depth)
        return [place(factor, weight) for factor in factors]

    @override
    def product(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> Tensor:
        return power(kept[0], weight, depth)

    @override
    def match(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        root = nearest_root(weight, depth)
        # At even depth the sign tells on which side of zero the root is, with the base's state.
        return [root if depth % 2 else root.copysign_(kept[0])]

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
            flush_dead([stepped[0]] * depth, elementwise(states[0]), scratch)
        weight.copy_(power(stepped[0], weight, depth, out=scratch))
