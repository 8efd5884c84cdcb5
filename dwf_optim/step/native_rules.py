"""What the compiled extension can step, and the reason where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.state import State, base_key, factor_key

# Types whose memory holds their values. (Other subclasses may be sharded, fake or traced.)
TYPES = (Tensor, torch.nn.Parameter)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_ADAM = {"betas", "eps", "amsgrad", "capturable", "decoupled_weight_decay"}
_OPTIONS: dict[type[Optimizer], set[str]] = {
    torch.optim.SGD: {"momentum", "dampening", "nesterov"},
    torch.optim.Adam: _ADAM,
    torch.optim.AdamW: _ADAM,
}
# `foreach` and `fused` choose among torch's own implementations of the same arithmetic, for speed.
_COMMON = {"lr", "weight_decay", "maximize", "foreach", "fused", "differentiable"}


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


@dataclass(frozen=True)
class Keys:
    """Under which keys a weight's state holds what the extension steps.

    Attributes:
        factors: By factor.
        moments: By moment and factor.
        counts: By factor; empty where the base counts no steps.
    """

    factors: list[str]
    moments: list[list[str]]
    counts: list[str]

    @classmethod
    def of(cls, rule: Rule, depth: int) -> Keys:
        """Return the keys of a rule at a depth."""
        depths = range(depth)
        return cls(
            [factor_key(d) for d in depths],
            [[base_key(d, moment) for d in depths] for moment in rule.moments],
            [base_key(d, "step") for d in depths] if rule.counts else [],
        )

    @property
    def elementwise(self) -> list[str]:
        """Those of the tensors that have the weight's shape."""
        return [*self.factors, *(key for row in self.moments for key in row)]


def rule_of(base: type[Optimizer], options: dict[str, Any]) -> Rule | str:
    """Return the extension's rule for a base, or why there is none.

    Args:
        base: The base's class.
        options: Its group options.
    """
    # A subclass may step differently.
    if base not in _OPTIONS:
        return f"the base is {base.__name__}, not one of {[cls.__name__ for cls in _OPTIONS]}"
    if unknown := sorted(options.keys() - _OPTIONS[base] - _COMMON):
        return f"{base.__name__} has options that the extension does not know: {unknown}"
    if options.get("capturable"):
        return "capturable=True is for CUDA graphs"
    if base is torch.optim.SGD:
        if float(options["momentum"]) == 0:
            return Rule("SGD", (), counts=False)
        return Rule("MOMENTUM", ("momentum_buffer",), counts=False)
    if options["amsgrad"]:
        return Rule("AMSGRAD", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), counts=True)
    return Rule("ADAM", ("exp_avg", "exp_avg_sq"), counts=True)


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
        if not isinstance(tensor, Tensor) or type(tensor) not in TYPES:
            return f"{what} is a {type(tensor).__name__}"
        if tensor.device.type != "cpu":
            return f"{what} is on {tensor.device}, not on the CPU"
        dtypes = DTYPES if what in ("it", "its gradient") else (torch.float32,)
        if tensor.dtype not in dtypes:
            return f"{what} is of {tensor.dtype}, not one of {dtypes}"
        if not _in_order_of(p, tensor):
            return (
                f"{what} has strides {tensor.stride()} at shape {tuple(tensor.shape)}, so it has gaps "
                "or another order than the weight in memory"
            )
    if any(key not in state for key in (*keys.elementwise, *keys.counts)):
        return None
    return f"its state is not what the base makes: {sorted(state)}"


def _in_order_of(p: Tensor, tensor: Tensor) -> bool:
    """Whether a tensor is dense in the order of p's memory."""
    order = sorted(range(p.ndim), key=lambda dim: -p.stride()[dim])
    return tensor.shape == p.shape and tensor.permute(order).is_contiguous()
