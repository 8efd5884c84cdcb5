"""What of a step does not depend on the base, by the compiled extension: any base then steps in cache.

One pass before the base's own step of a block reads factors and gradient and writes the factors'
gradients, another after it clears what is dead and writes the weight; torch takes a pass for each
multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from dwf_optim.state import State, elementwise
from dwf_optim.step.native_reader import reader
from dwf_optim.storage import Storage
from dwf_optim.storage.full import Full

try:
    from dwf_optim import _native
except ImportError:  # installed without a compiler
    _native = None  # type: ignore[assignment]

# Which of the compiled passes to use, by name; empty for the widest that this machine has.
INSTRUCTION_SET = ""

_TINY = torch.finfo(torch.float32).tiny


def with_passes(mode: Storage) -> Storage:
    """Return a way to keep factors that steps by the extension's passes, where there are any."""
    return Passes() if _native is not None and type(mode) is Full else mode


class Passes(Full):
    """Every factor is kept, as in `Full`; tensors that the extension cannot read go through torch.

    Products are those of torch to the bit. The sum with the penalty may differ in the last one.
    """

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
        room = [torch.empty_like(factor) for factor in stepped] if out is None else list(out)
        decay, threads = 2 * penalty / depth, torch.get_num_threads()
        if reader().factor_gradients(list(stepped), grad, decay, room, threads, INSTRUCTION_SET):
            return room
        return super().gradients(stepped, weight, grad, penalty, depth, room)

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
        bound = _TINY ** (1 / depth) if flush else 0.0
        values = [value for state in states for value in elementwise(state)] if flush else []
        tensors = [value for value in values if isinstance(value, Tensor)]
        threads = torch.get_num_threads()
        if reader().finish(list(stepped), tensors, weight, bound, threads, INSTRUCTION_SET):
            torch.autograd.graph.increment_version(weight)
        else:
            super().finish(stepped, weight, depth, states, flush, scratch)
