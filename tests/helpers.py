"""What several test files share: every base, a third-party base, small models, bounds."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dwf_optim import DWFOptimizer


class Lion(Optimizer):
    """A third-party base: sign momentum, with a counter kept in its group."""

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "k": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            group["k"] += 1
            fast, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["average"] = torch.zeros_like(p)
                move = state["average"].mul(fast).add(p.grad, alpha=1 - fast).sign()
                # The counter matters: a wrapper that loses it, or counts twice, ends elsewhere.
                p.add_(move, alpha=-group["lr"] / math.sqrt(group["k"]))
                state["average"].mul_(slow).add_(p.grad, alpha=1 - slow)
        return loss


class Base(NamedTuple):
    """A base optimizer with options at which 20 steps change a small model and do not blow up."""

    name: str
    cls: type[Optimizer]
    options: dict[str, Any]
    kind: str

    def takes(self, option: str) -> bool:
        return option in inspect.signature(self.cls).parameters


_optim = torch.optim
BASES = [
    Base("SGD", _optim.SGD, {"lr": 0.05}, "sgd"),
    Base("SGD-momentum", _optim.SGD, {"lr": 0.02, "momentum": 0.9}, "sgd"),
    Base("SGD-nesterov", _optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}, "sgd"),
    Base("SGD-dampening", _optim.SGD, {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}, "sgd"),
    Base("Adam", _optim.Adam, {"lr": 0.01}, "adam"),
    Base("Adam-amsgrad", _optim.Adam, {"lr": 0.01, "amsgrad": True}, "adam"),
    Base("AdamW", _optim.AdamW, {"lr": 0.01}, "adam"),
    Base("NAdam", _optim.NAdam, {"lr": 0.01}, "adam"),
    Base("RAdam", _optim.RAdam, {"lr": 0.01}, "adam"),
    Base("Adamax", _optim.Adamax, {"lr": 0.01}, "adam"),
    Base("RMSprop", _optim.RMSprop, {"lr": 0.01}, "adam"),
    Base("RMSprop-centered", _optim.RMSprop, {"lr": 3e-3, "centered": True, "momentum": 0.5}, "adam"),
    Base("Adagrad", _optim.Adagrad, {"lr": 0.05, "lr_decay": 0.01}, "adam"),
    Base("Adadelta", _optim.Adadelta, {"lr": 1.0}, "adam"),
    Base("ASGD", _optim.ASGD, {"lr": 0.05, "t0": 5}, "sgd"),
    Base("Rprop", _optim.Rprop, {"lr": 0.01}, "adam"),
    Base("Lion", Lion, {"lr": 0.01}, "adam"),
]

every_base = pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own, so that no test depends on another's draws."""
    return torch.Generator().manual_seed(seed)


def mlp(dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Sequential:
    """A small network with two matrices and two biases."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded(seed + p.numel())) * 0.5)
    return model.to(dtype)


def data(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs and targets for `mlp`."""
    generator = seeded(99)
    inputs = torch.randn(16, 6, generator=generator).to(dtype)
    return inputs, torch.randn(16, 3, generator=generator).to(dtype)


def backward(model: nn.Module) -> Tensor:
    """Fill the gradients of a mean squared error, and return it."""
    inputs, targets = data(next(model.parameters()).dtype)
    model.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    """Take full-batch steps."""
    for _ in range(steps):
        backward(model)
        optimizer.step()


def step_with(optimizer: Optimizer, grads: dict[Tensor, Tensor]) -> None:
    """Take one step with given gradients."""
    for p, grad in grads.items():
        p.grad = grad
    optimizer.step()


def snapshot(model: nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [p.detach().clone() for p in model.parameters()]


def identical(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors agree to the bit, NaN with NaN."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0))
        for a, b in zip(left, right, strict=True)
    )


def assert_same_state(left: Optimizer, right: Optimizer) -> None:
    """State and group options agree to the bit, key by key."""
    states, others = left.state_dict(), right.state_dict()
    assert states["param_groups"] == others["param_groups"]
    assert states["state"].keys() == others["state"].keys()
    for index, state in states["state"].items():
        other = others["state"][index]
        assert state.keys() == other.keys()
        for key, value in state.items():
            if isinstance(value, Tensor):
                assert identical([value], [other[key]]), (index, key)
            else:
                assert value == other[key], (index, key)


def dwf(model: nn.Module, base: Base, **options: Any) -> DWFOptimizer:
    """A `DWFOptimizer` over a model with a base of the table."""
    options = {"penalty": 1e-3, **base.options, **options}
    return DWFOptimizer(model.named_parameters(), base=base.cls, **options)


def ulp(weight: Tensor) -> Tensor:
    """Spacing of floating-point numbers at |weight|, away from zero."""
    size = weight.abs()
    up = torch.nextafter(size, torch.full_like(size, torch.inf)) - size
    down = size - torch.nextafter(size, torch.zeros_like(size))
    return torch.where(up.isfinite(), up, down)  # the largest number has no upper neighbour


def zeros(model: nn.Module) -> int:
    """Zeros among the matrices."""
    return sum(int((p == 0).sum()) for p in model.parameters() if p.ndim >= 2)


def kept_mass(model: nn.Module) -> float:
    """A metric that falls with every weight lost: the sum of magnitudes."""
    return sum(float(p.detach().double().abs().sum()) for p in model.parameters())


def tally(calls: list[int]) -> Callable[[nn.Module], float]:
    """`kept_mass`, writing down every call."""

    def evaluate(model: nn.Module) -> float:
        calls.append(zeros(model))
        return kept_mass(model)

    return evaluate
