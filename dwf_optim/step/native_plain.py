"""SGD of small tensors without factors by the extension, which has to be torch's to the bit.

Torch rounds ``a + alpha * b`` once where the processor can, and nothing says so but its code. So this is
tried out once a process, and where a bit differs such tensors are left to torch. Large ones are too:
there the calls are not what takes the time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from dwf_optim.step.native_reader import reader
from dwf_optim.step.native_rules import Rule

# Every rest that a vector register may leave, and one of many registers.
_SIZES = [*range(34), 1000]
_OPTIONS: list[dict[str, Any]] = [
    {"lr": 0.1, "momentum": momentum, "dampening": dampening, "nesterov": nesterov} | more
    for momentum, dampening, nesterov in ((0.0, 0.0, False), (0.9, 0.3, False), (0.9, 0.0, True))
    for more in ({"maximize": False, "weight_decay": 0.0}, {"maximize": True, "weight_decay": 0.01})
]


def keys(rule: Rule, options: dict[str, Any]) -> list[str] | None:
    """Return the keys of such a tensor's state, or None where the extension leaves it to torch.

    Args:
        rule: The base's, of those that the extension knows.
        options: The base's group options. Torch's other implementations, where they are asked for, do
            something else: fused rounds in its own way, and foreach writes gradients.
    """
    if rule.name not in ("SGD", "MOMENTUM") or options.get("fused") or options.get("foreach"):
        return None
    if not _is_torchs():
        return None
    return list(rule.moments)


@functools.cache
def _is_torchs() -> bool:
    from dwf_optim import _native  # not there in every installation

    return _native.plain_is_supported() and all(map(_agrees, _OPTIONS))


def _agrees(options: dict[str, Any]) -> bool:
    generator = torch.Generator().manual_seed(0)

    def draw() -> Sequence[Tensor]:
        values = torch.randn(sum(_SIZES), generator=generator, dtype=torch.float32, device="cpu")
        return torch.split(values, _SIZES)

    starts, grads, buffers = draw(), draw(), draw()
    moments = ["momentum_buffer"] if options["momentum"] else []
    theirs, ours = ([start.clone() for start in starts] for _ in range(2))
    kept: list[Any] = [buffer.clone() for buffer in buffers]
    states = {
        p: {key: buffer.clone() for key in moments} for p, buffer in zip(ours, buffers, strict=True)
    }
    # Not an optimizer, whose step would call global hooks.
    sgd(theirs, list(grads), kept, foreach=False, fused=False, **options)
    for p, grad in zip(ours, grads, strict=True):
        p.grad = grad
    table = reader().collect(ours, states, [], [], [], 2, moments)
    table.step_plain(options)
    after = [*ours, *(state[key] for state in states.values() for key in moments)]
    pairs = zip(after, [*theirs, *(kept if moments else [])], strict=True)
    return len(table.plain_weights) == len(ours) and all(torch.equal(a, b) for a, b in pairs)
