"""What of a base's state changes its sign when a factor and its gradients do.

A base that steps ``(-f, -g)`` as the mirror image of ``(f, g)`` keeps *odd* values, which are then
mirrored too (averages of gradients), and *even* ones, which are not (averages of squares).

To support another base, add its class name, and its odd keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.state import State

ODD = frozenset({"momentum_buffer", "exp_avg", "grad_avg", "prev", "ax"})
# Bases all of whose elementwise state is either in ODD or even; subclasses may keep more.
KNOWN = frozenset(
    {
        "SGD",
        "Adam",
        "AdamW",
        "NAdam",
        "RAdam",
        "Adamax",
        "RMSprop",
        "Adagrad",
        "Adadelta",
        "Rprop",
        "ASGD",
    }
)


def is_known(base: type[Optimizer]) -> bool:
    """Say whether the parity of all that a base keeps is known."""
    return base.__name__ in KNOWN and base.__module__.startswith("torch.optim.")


def mirror_(state: State, mask: Tensor) -> None:
    """Mirror a base's state, in place, where the mask is set."""
    for key, value in state.items():
        if key in ODD and isinstance(value, Tensor):
            value.copy_(torch.where(mask, -value, value))
