"""What the ways that have one root for all factors of a weight have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from dwf_optim.convert import convert_state
from dwf_optim.roots import root_gradient
from dwf_optim.state import ROOT, Part, State
from dwf_optim.storage.mode import Storage


class Rooted(Storage):
    """The base steps one root, which starts where balanced factors do."""

    default_init = "balanced"
    one_init = "has one root for all factors of a weight, so they start balanced"
    all_zero = "which one root a weight cannot leave: it stays zero; storage='full' would train it"

    @override
    def parts(self, depth: int) -> Sequence[Part]:
        return (ROOT,)

    @override
    def convert(self, base: type[Optimizer], state: State, factors: Sequence[Tensor]) -> list[State]:
        # A root is stepped as the first of its factors.
        return convert_state(base, state, factors)[:1]

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
        return [root_gradient(stepped[0], weight, grad, penalty, depth, out[0] if out else None)]
