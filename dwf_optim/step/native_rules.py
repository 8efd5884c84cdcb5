"""What the compiled extension can step, and the reason where it cannot."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.base import Engine
from dwf_optim.sharding import local
from dwf_optim.state import Part, State, base_key
from dwf_optim.storage import Storage

# Types whose memory holds their values. (Other subclasses may be sharded, fake or traced.)
TYPES = (Tensor, torch.nn.Parameter)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Second moments below FLT_MIN count as zero. Their root, 1e-19, is less than a rounding of Adam's
# denominator if eps is above sqrt(FLT_MIN) / (float32 eps / 2) = 1.8e-12; with a smaller one the kernel
# keeps denormals.
_LEAST_EPS = 1.9e-12


@dataclass(frozen=True)
class Rule:
    """How a base moves a factor, and what it keeps for that.

    Attributes:
        name: Of the extension's rule.
        moments: What the base calls its elementwise state.
        counts: Whether it counts steps, in ``step``.
    """

    name: str
    moments: tuple[str, ...]
    counts: bool


_SGD = Rule("SGD", (), counts=False)
_MOMENTUM = Rule("MOMENTUM", ("momentum_buffer",), counts=False)
_ADAM = Rule("ADAM", ("exp_avg", "exp_avg_sq"), counts=True)
_AMSGRAD = Rule("AMSGRAD", (*_ADAM.moments, "max_exp_avg_sq"), counts=True)

# `foreach` and `fused` choose among torch's own implementations of the same arithmetic, for speed.
_COMMON = {"lr", "weight_decay", "maximize", "foreach", "fused", "differentiable"}
_OF_ADAM = {*_COMMON, "betas", "eps", "amsgrad", "capturable", "decoupled_weight_decay"}
_OPTIONS: dict[type[Optimizer], set[str]] = {
    torch.optim.SGD: {*_COMMON, "momentum", "dampening", "nesterov"},
    torch.optim.Adam: _OF_ADAM,
    torch.optim.AdamW: _OF_ADAM,
}


@dataclass(frozen=True)
class Keys:
    """Under which keys a weight's state holds what the extension steps.

    Attributes:
        kept: What is kept of the factors.
        moments: By moment and part that the base steps.
        counts: By part; empty where the base counts no steps.
    """

    kept: list[str]
    moments: list[list[str]]
    counts: list[str]

    @classmethod
    def of(cls, rule: Rule, mode: Storage, depth: int) -> Keys:
        """Return the keys of a rule for a storage at a depth; always the same object."""
        return cls._of(rule, tuple(mode.keys(depth)), tuple(mode.parts(depth)))

    @classmethod
    @functools.cache
    def _of(cls, rule: Rule, kept: tuple[str, ...], parts: tuple[Part, ...]) -> Keys:
        return cls(
            list(kept),
            [[base_key(part, moment) for part in parts] for moment in rule.moments],
            [base_key(part, "step") for part in parts] if rule.counts else [],
        )

    @property
    def elementwise(self) -> list[str]:
        """Those of the tensors that have the weight's shape, or a gate's."""
        return [*self.kept, *(key for row in self.moments for key in row)]


def flushes_denormals(options: dict[str, Any], flush: bool) -> bool:
    """Say whether denormal numbers count as zero within a step.

    Args:
        options: The base's.
        flush: Whether weights killed by underflow become zeros.
    """
    return flush and float(options.get("eps", 1.0)) >= _LEAST_EPS


def rule_of(engine: Engine, options: dict[str, Any], mode: Storage, flush: bool) -> Rule | str:
    """Return the extension's rule for a base, or why there is none.

    Args:
        engine: The base.
        options: Its group options. What the base does not know there (a scheduler's notes) is ignored.
        mode: The way factors are kept.
        flush: Whether weights killed by underflow become zeros.
    """
    base = engine.base
    if mode.name == "ephemeral" and not flushes_denormals(options, flush):
        return (
            f"storage='ephemeral' with flush={'dead' if flush else None!r} and this eps keeps denormals"
        )
    # A subclass may step differently.
    if base not in _OPTIONS:
        return f"the base is {base.__name__}, not one of {[cls.__name__ for cls in _OPTIONS]}"
    if unknown := engine.defaults.keys() - _OPTIONS[base]:
        return f"{base.__name__} has options that the extension does not know: {sorted(unknown)}"
    if options.get("capturable"):
        return "capturable=True is for CUDA graphs"
    if base is torch.optim.SGD:
        return _SGD if float(options["momentum"]) == 0 else _MOMENTUM
    return _AMSGRAD if options["amsgrad"] else _ADAM


def why_not(p: Tensor, state: State, keys: Keys) -> str | None:
    """Say why the extension will not step a parameter, now or after its first step.

    Args:
        p: A factorized parameter with a gradient, which the extension does not take.
        state: Its state; empty before the first step, which makes it.
        keys: What the extension expects there.

    Returns:
        The reason; None if only the first step is missing.
    """
    tensors = {"it": p, "its gradient": p.grad}
    tensors |= {f"its {key}": state[key] for key in keys.elementwise if key in state}
    for what, tensor in tensors.items():
        part = local(tensor) if isinstance(tensor, Tensor) else tensor
        if not isinstance(part, Tensor) or type(part) not in TYPES:
            return f"{what} is a {type(tensor).__name__}"
        if part.device.type != "cpu":
            return f"{what} is on {part.device}, not on the CPU"
        dtypes = DTYPES if what in ("it", "its gradient") else (torch.float32,)
        if part.dtype not in dtypes:
            return f"{what} is of {part.dtype}, not one of {dtypes}"
    extra = sorted(state.keys() - {*keys.elementwise, *keys.counts})
    return f"its state has what this base does not make: {extra}" if extra else None
