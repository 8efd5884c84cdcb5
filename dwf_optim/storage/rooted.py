"""What the ways that have one root for all factors of a weight have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from dwf_optim.roots import root_gradient
from dwf_optim.state import ROOT, Part
from dwf_optim.storage.mode import Storage


class Rooted(Storage):
    """The base steps one root, which starts where balanced factors do."""

    default_init = "balanced"
    any_init = False
    all_zero = "which one root a weight cannot leave: it stays zero; storage='full' would train it"

    @override
    def parts(self, depth: int) -> Sequence[Part]:
        return (ROOT,)

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
