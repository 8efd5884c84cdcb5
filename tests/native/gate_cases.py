"""Random settings, tensors and layouts for the native step of weights that share gates."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import seeded
from tests.native.cases import LAYOUTS, build, draw_setting, extremes, lay_out, moment_names
from tests.native.truth import Setting


class Spec(NamedTuple):
    """A structure, a shape that has it, how groups lie in it, and the shape of a gate."""

    structure: Any
    shape: tuple[int, ...]
    view: tuple[int, ...]
    gate: tuple[int, ...]

    def group(self) -> Tensor:
        """The number of each element's group."""
        groups = torch.empty(self.gate).numel()
        return torch.arange(groups).view(self.gate).expand(self.view).reshape(self.shape)


def plain(structure: Any, shape: tuple[int, ...], *keeps: int) -> Spec:
    gate = tuple(size if dim in keeps else 1 for dim, size in enumerate(shape))
    return Spec(structure, shape, shape, gate)


SPECS = (
    plain("neuron", (1, 1), 0),
    plain("neuron", (7, 1), 0),
    plain("neuron", (33, 65), 0),
    plain("neuron", (3, 1030), 0),
    plain("filter", (5, 3, 3, 3), 0),
    plain("filter", (4, 40, 7), 0),
    plain("input", (1, 9), 1),
    plain("input", (65, 33), 1),
    plain("input", (130, 70), 1),
    plain("input", (4, 3, 5, 7), 1),
    plain((1,), (2, 3, 1100), 1),
    plain((0, 1), (3, 4, 5, 2), 0, 1),
    plain((), (3, 5)),
    Spec(("head", 3), (6, 11), (3, 2, 11), (3, 1, 1)),
    Spec(("qkv_head", 2), (12, 5), (3, 2, 2, 5), (1, 2, 1, 1)),
)
# Groups of more elements than are added up in single precision at each place.
LARGE = (plain("neuron", (2, 67_000), 0), plain("input", (3000, 20), 1))
# Of several shares of work.
MANY = (
    plain("neuron", (300, 311), 0),
    plain("input", (90, 100, 3, 3), 1),
    plain("filter", (70, 9, 9, 9), 0),
)


@dataclass
class GateCase:
    """What one step starts from."""

    setting: Setting
    depth: int
    count: int
    weigh: bool
    specs: list[Spec]
    weights: list[Parameter]
    optimizer: DWFOptimizer

    def parts(self) -> list[str]:
        return ["omega", *(f"gate.{d}" for d in range(self.depth - 1))]

    def kept(self, p: Tensor) -> list[Tensor]:
        return [self.optimizer.state[p][part] for part in self.parts()]

    def moments(self, p: Tensor) -> list[list[Tensor]]:
        """By what the base steps."""
        state, names = self.optimizer.state[p], moment_names(self.setting)
        return [[state[f"base.{part}.{name}"] for name in names] for part in self.parts()]

    def everything(self) -> list[Tensor]:
        states = [self.optimizer.state[p] for p in self.weights]
        tensors = [p.detach() for p in self.weights] + [v for s in states for v in s.values()]
        return [tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors]


def draw(seed: int, backend: str = "native", **fixed: Any) -> GateCase:
    """Draw a case; fixed may be fields of `Setting`, ``depth``, ``dtype``, ``layout``, ``specs``."""
    choose, generator = random.Random(seed), seeded(seed)
    setting = draw_setting(choose)
    depth = fixed.pop("depth", choose.randint(2, 8))
    halves = [torch.float32, torch.float32, torch.bfloat16, torch.float16]
    dtype = fixed.pop("dtype", choose.choice(halves))
    layout = fixed.pop("layout", choose.choice(LAYOUTS))
    specs = list(fixed.pop("specs", choose.sample(SPECS, 3)))
    weigh = choose.random() < 0.4
    for key, value in fixed.items():
        setattr(setting, key, value)
    count = choose.choice([1, 5, 1000])

    def tensor(values: Tensor, number: int) -> Tensor:
        return lay_out(values, LAYOUTS[number % 3] if layout == "mixed" else layout)

    states, weights = [], []
    for spec in specs:
        state: dict[str, Tensor] = {}
        for d, part in enumerate(["omega", *(f"gate.{d}" for d in range(depth - 1))]):
            shape = spec.gate if d else spec.shape
            state[part] = tensor(extremes(shape, generator), d)
            for number, name in enumerate(moment_names(setting)):
                values = extremes(shape, generator)
                values = values.square() if name.endswith("sq") else values
                state[f"base.{part}.{name}"] = tensor(values, d + number)
            if setting.base != "SGD":
                state[f"base.{part}.step"] = torch.tensor(float(count - 1))
        p = Parameter(tensor(agreeing(spec, state, depth).to(dtype), 0))
        grad = extremes(spec.shape, generator) * choose.choice([1e-3, 1.0])
        p.grad = tensor(grad.to(dtype), 1)
        weights.append(p)
        states.append(state)
    groups: list[Any] = [
        {"params": [p], "structure": spec.structure, "weigh_by_size": weigh}
        for p, spec in zip(weights, specs, strict=True)
    ]
    optimizer = build(setting, depth, groups, backend=backend)
    for p, state in zip(weights, states, strict=True):
        optimizer.state[p] = state
    return GateCase(setting, depth, count, weigh, specs, weights, optimizer)


def agreeing(spec: Spec, state: dict[str, Tensor], depth: int) -> Tensor:
    """Return the weight that is kept, rounded as the format says."""
    product = state["gate.0"]
    for d in range(1, depth - 1):
        product = product * state[f"gate.{d}"]
    return state["omega"] * product.flatten()[spec.group()]
