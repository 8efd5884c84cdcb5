"""torch's own optimizer database (`torch.testing._internal.common_optimizers`), with us in front.

The wheel ships the inputs, not the tests over them; those are in test_torch_*.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db

from dwf_optim import DWFOptimizer
from tests.contract.common import randn

INFOS = [info for info in optim_db if info.name in ("SGD", "Adam", "AdamW", "RMSprop")]


class Config(NamedTuple):
    """A torch optimizer as the base of a factorization, constructible as torch's suite does it."""

    info: OptimizerInfo
    depth: int
    min_ndim: int

    def __str__(self) -> str:
        return f"{self.info.name}-depth{self.depth}-min_ndim{self.min_ndim}"

    @property
    def cls(self) -> type[DWFOptimizer]:
        """``cls(params, lr=None, **base options)``, and nothing of ours in the call."""
        info, depth, min_ndim = self

        class Adapted(DWFOptimizer):
            def __init__(self, params: Any, lr: float | Tensor | None = None, **options: Any) -> None:
                own = {"penalty": 0.0, "depth": depth, "min_ndim": min_ndim}
                with warnings.catch_warnings():
                    # Many inputs decay, which is said to be for tensors without factors only.
                    warnings.filterwarnings("ignore", message="weight_decay=", category=UserWarning)
                    super().__init__(params, lr, base=info.optim_cls, **own, **options)

        return Adapted

    def inputs(self, **flags: bool) -> Iterator[dict[str, Any]]:
        """Constructor options, fresh ones (a tensor lr is written to by schedulers)."""
        for each in self.info.optim_inputs_func(device="cpu"):
            yield {**each.kwargs, **flags}

    def build(self, params: Any, **options: Any) -> DWFOptimizer:
        return self.cls(params, **options)


EVERY = ((1, 0), (2, 0), (2, 2), (3, 0), (3, 2))
SOME = ((1, 0), (2, 0), (3, 2))


def configs(shapes: tuple[tuple[int, int], ...]) -> pytest.MarkDecorator:
    """Each base at each (depth, min_ndim)."""
    return pytest.mark.parametrize("config", [Config(i, *s) for i in INFOS for s in shapes], ids=str)


# torch's inputs leave lr at torch's own default, 1e-3 for SGD: too low to train networks, as is said.
low_rates = pytest.mark.filterwarnings("ignore:lr outside the usable window:UserWarning")
every_config = configs(EVERY)
some_configs = configs(SOME)
factorized_configs = configs(SOME[1:])
dense_configs = configs(((1, 0), (3, 2)))


class Regression:
    """The suite's problem: ten outputs of five inputs, squared."""

    def __init__(
        self, contiguous: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        weight = randn(10, 5, 2, seed=3 * seed + 1, dtype=dtype)
        bias = randn(10, 2, seed=3 * seed + 2, dtype=dtype)
        weight, bias = weight[..., 0], bias[..., 0]  # with gaps
        if contiguous:
            weight, bias = weight.contiguous(), bias.contiguous()
        self.params = [Parameter(weight), Parameter(bias)]
        self.input = randn(5, seed=3 * seed + 3, dtype=dtype)

    def backward(self, optimizer: Optimizer) -> Tensor:
        optimizer.zero_grad()
        weight, bias = self.params
        loss = (weight.mv(self.input) + bias).square().sum()
        loss.backward()
        return loss.detach()

    def train(self, optimizer: Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.step(lambda: self.backward(optimizer))
