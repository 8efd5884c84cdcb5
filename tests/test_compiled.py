"""Steps by `torch.compile`: the reference's results, and one compilation whatever a schedule does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import BASES, seeded

BY_NAME = {base.name: base for base in BASES}
# Relative to the norm: a step commits a few dozen roundings of 1.1e-16, and there are few steps.
TOLERANCE = 1e-12
STEPS = 6

pytestmark = [
    pytest.mark.slow,
    # Of torch's own, when torch.compile imports its compiler (2.13).
    pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning"),
]


def compilations() -> int:
    count: int = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return count


class Run:
    """Two weights in float64, one transposed and one 0-d, stepped with given gradients."""

    def __init__(self, name: str, backend: str, **options: Any) -> None:
        generator = seeded(7)
        start = torch.randn(3, 5, generator=generator, dtype=torch.float64) * 0.6
        self.weights = [Parameter(start.t()), Parameter(torch.tensor(0.7, dtype=torch.float64))]
        base = BY_NAME[name]
        options = {"penalty": 0.01, "lr_scale": 1.0, "min_ndim": 0, **base.options, **options}
        self.optimizer = DWFOptimizer(self.weights, base=base.cls, backend=backend, **options)
        self.generator = seeded(8)

    def step(self, **group: Any) -> None:
        """Take a step with other group options."""
        self.optimizer.param_groups[0].update(group)
        for p in self.weights:
            p.grad = torch.randn(p.shape, generator=self.generator, dtype=p.dtype) * 0.3
        self.optimizer.step()

    def everything(self) -> list[Tensor]:
        states = [value for p in self.weights for value in self.optimizer.state[p].values()]
        return [*(p.detach() for p in self.weights), *states]


def schedule(name: str, step: int) -> dict[str, Any]:
    """What one-cycle schedules change at every step."""
    if name.startswith("SGD"):
        momentum = {} if name == "SGD" else {"momentum": 0.9 - 0.05 * step}
        return {"lr": 0.05 / (1 + step), **momentum}
    return {"lr": 0.02 / (1 + step), "betas": (0.9 - 0.05 * step, 0.99)}


CASES = [
    ("SGD", {"depth": 2, "maximize": True}),
    ("SGD-nesterov", {"depth": 3}),
    ("SGD-dampening", {"depth": 2, "flush": None, "penalty": 0.0}),
    ("Adam-amsgrad", {"depth": 2}),
    ("AdamW", {"depth": 3, "maximize": True}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=[name for name, _ in CASES])
def test_equals_the_reference_and_compiles_once(name: str, options: dict[str, Any]) -> None:
    truth, run = Run(name, "reference", **options), Run(name, "compiled", **options)
    before = compilations()
    for step in range(STEPS):
        truth.step(**schedule(name, step))
        run.step(**schedule(name, step))
        for ours, expected in zip(run.everything(), truth.everything(), strict=True):
            assert (ours - expected).norm() <= TOLERANCE * expected.norm()
    assert compilations() == before + 1


def test_half_precision_weights_are_the_rounded_products() -> None:
    weight = Parameter((torch.randn(4, 6, generator=seeded(1)) * 0.5).bfloat16())
    twin = Parameter(weight.detach().clone())
    dead = torch.zeros(4, 6, dtype=torch.bool)
    dead[1, 2] = True
    for p, backend in ((weight, "compiled"), (twin, "reference")):
        optimizer = DWFOptimizer([p], lr=0.05, momentum=0.9, penalty=0.01, backend=backend)
        generator = seeded(2)
        for step in range(4):
            p.grad = torch.randn(4, 6, generator=generator).bfloat16() * 0.1
            p.grad[3, 3] = torch.nan if step == 3 else 0.0
            p.grad[dead] = 0
            if step == 2:
                # Killed by underflow, as decay would in thousands of steps; momentum included.
                for key, value in optimizer.state[p].items():
                    value[dead] = 1e-14 if key.startswith("factor") else 0.0
            version = p._version
            optimizer.step()
            assert p._version > version  # autograd must see that it was written
        factors = optimizer.factors(p)
        product = (factors[0] * factors[1] * factors[2]).bfloat16()
        assert torch.equal(product.nan_to_num(), p.nan_to_num())
        assert torch.equal(p == 0, dead)
        assert all(torch.equal(f == 0, dead) for f in factors)
        assert p[3, 3].isnan()
    alive = ~(dead | weight.isnan())
    # One rounding to bfloat16 may fall to the other side.
    torch.testing.assert_close(weight[alive], twin[alive], rtol=2.0**-7, atol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [("RMSprop", {}), ("Adam", {"storage": "tied"}), ("Adam", {"lr": 0.0})],
    ids=["base", "storage", "rate-0"],
)
def test_what_it_cannot_take_is_stepped_in_blocks(name: str, options: dict[str, Any]) -> None:
    blocked, run = Run(name, "blocked", **options), Run(name, "compiled", **options)
    before = compilations()
    for _ in range(3):
        blocked.step()
        run.step()
    assert all(torch.equal(a, b) for a, b in zip(run.everything(), blocked.everything(), strict=True))
    assert compilations() == before


def test_without_a_compiler_says_what_is_missing() -> None:
    script = (
        "import torch, dwf_optim\n"
        "p = torch.nn.Parameter(torch.ones(2, 2)); p.grad = torch.ones(2, 2)\n"
        "dwf_optim.DWFOptimizer([p], penalty=0.1, backend='compiled').step()\n"
    )
    environment = {**os.environ, "CXX": "false", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "needs a C++ compiler" in result.stderr.splitlines()[-1]
