"""Random settings, tensors and layouts for the native step."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from tests.helpers import seeded
from tests.native.truth import Setting
from tests.storage.problem import even_depths_allowed

MOMENTS = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
}
LAYOUTS = ("contiguous", "transposed", "channels_last", "misaligned", "gaps", "mixed")
SHAPES = ((1, 1), (3, 5), (17, 3), (16, 64), (33, 65), (4, 3, 5, 7), (61, 67), (2, 1, 40), (3, 1030))


@dataclass
class Case:
    """What one step starts from."""

    setting: Setting
    storage: str
    depth: int
    count: int
    weights: list[Parameter]
    optimizer: DWFOptimizer

    def kept(self, p: Tensor) -> list[Tensor]:
        return [self.optimizer.state[p][key] for key in kept_keys(self.storage, self.depth)]

    def moments(self, p: Tensor) -> list[list[Tensor]]:
        """By what the base steps."""
        state, names = self.optimizer.state[p], moment_names(self.setting)
        return [
            [state[f"base.{part}.{name}"] for name in names] for part in parts(self.storage, self.depth)
        ]

    def everything(self) -> list[Tensor]:
        states = [self.optimizer.state[p] for p in self.weights]
        return [t.detach().clone() for t in self.weights] + [
            v.clone() for s in states for v in s.values()
        ]


def kept_keys(storage: str, depth: int) -> list[str]:
    if storage == "full":
        return [f"factor.{d}" for d in range(depth)]
    return ["root"] if storage == "tied" else []


def parts(storage: str, depth: int) -> list[str]:
    return [str(d) for d in range(depth)] if storage == "full" else ["root"]


def moment_names(setting: Setting) -> tuple[str, ...]:
    if setting.base == "SGD":
        return MOMENTS["SGD"] if setting.momentum else ()
    return MOMENTS[setting.base][: 3 if setting.amsgrad else 2]


def draw_setting(choose: random.Random) -> Setting:
    base = choose.choice(["SGD", "SGD", "Adam", "AdamW"])
    setting = Setting(
        base=base,
        lr=10 ** choose.uniform(-5, 0),
        penalty=choose.choice([0.0, 1e-4, 0.1]),
        flush=choose.random() < 0.7,
        maximize=choose.random() < 0.3,
    )
    if base == "SGD":
        setting.momentum = choose.choice([0.0, 0.5, 0.9])
        setting.nesterov = setting.momentum > 0 and choose.random() < 0.4
        setting.dampening = 0.0 if setting.nesterov else choose.choice([0.0, 0.3])
    else:
        setting.beta1, setting.beta2 = choose.choice([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
        setting.eps = choose.choice([1e-8, 1e-3, 1e-16])
        setting.amsgrad = choose.random() < 0.4
    return setting


def extremes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Ordinary numbers, and among them zeros, denormal, tiny and huge ones."""
    values = torch.randn(shape, generator=generator) * 0.5
    kind = torch.rand(shape, generator=generator)
    powers = 10 ** (30 * torch.rand(shape, generator=generator) - 38)
    values = torch.where(kind < 0.15, values * powers, values)  # 1e-38 to 1e-8
    values = torch.where(kind < 0.10, values * 1e-40, values)  # denormal
    values = torch.where((kind > 0.92) & (kind < 0.97), 1e4 * values, values)
    values = torch.where(kind > 0.995, 1e10 * values, values)
    return torch.where((kind > 0.10) & (kind < 0.13), 0.0, values)


def lay_out(values: Tensor, layout: str) -> Tensor:
    """Copy values into memory of a layout."""
    shape = values.shape
    if layout == "transposed":
        return values.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "channels_last" and values.ndim == 4:
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "misaligned":
        room = torch.empty(values.numel() + 1, dtype=values.dtype)
        return room[1:].view(shape).copy_(values)
    if layout == "gaps":
        room = torch.empty(*shape, 2, dtype=values.dtype)
        return room[..., 0].copy_(values)
    return values.clone(memory_format=torch.contiguous_format)


def draw(seed: int, storage: str = "full", **fixed: Any) -> Case:
    """Draw a case; fixed may be fields of `Setting`, ``depth``, ``dtype``, ``layout``, ``shapes``."""
    choose, generator = random.Random(seed), seeded(seed)
    setting = draw_setting(choose)
    depth = fixed.pop("depth", choose.randint(2, 8))
    dtype = fixed.pop(
        "dtype", choose.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])
    )
    layout = fixed.pop("layout", choose.choice(LAYOUTS))
    shapes = fixed.pop("shapes", choose.sample(SHAPES, choose.randint(1, 3)))
    for key, value in fixed.items():
        setattr(setting, key, value)
    if storage == "ephemeral":  # the kernel takes no others
        dtype, setting.flush, setting.eps = torch.float32, True, max(setting.eps, 1e-8)
    count = choose.choice([1, 5, 1000])

    def tensor(values: Tensor, number: int) -> Tensor:
        return lay_out(values, LAYOUTS[number % 3] if layout == "mixed" else layout)

    states, weights = {}, []
    for shape in shapes:
        state: dict[str, Tensor] = {}
        kept = kept_keys(storage, depth)
        for d, part in enumerate(parts(storage, depth)):
            if kept:
                state[kept[d]] = tensor(extremes(shape, generator), d)
            for number, name in enumerate(moment_names(setting)):
                values = extremes(shape, generator)
                values = values.square() if name.endswith("sq") else values
                state[f"base.{part}.{name}"] = tensor(values, d + number)
            if setting.base != "SGD":
                state[f"base.{part}.step"] = torch.tensor(float(count - 1))
        values = agreeing(storage, [state[key] for key in kept], depth, shape, generator)
        p = Parameter(tensor(values.to(dtype), 0))
        grad = extremes(shape, generator) * choose.choice([1e-3, 1.0])
        p.grad = tensor(grad.to(dtype), 1)
        weights.append(p)
        states[p] = state
    optimizer = build(setting, depth, weights, storage=storage)
    for p, state in states.items():
        optimizer.state[p] = state
    return Case(setting, storage, depth, count, weights, optimizer)


def agreeing(
    storage: str, kept: list[Tensor], depth: int, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Return a weight that agrees with what is kept of it."""
    if storage == "ephemeral":
        return extremes(shape, generator)
    factors = kept if storage == "full" else kept * depth
    weight = factors[0]
    for factor in factors[1:]:
        weight = weight * factor
    if storage == "full" or depth % 2:
        return weight
    return weight.copysign(torch.randn(shape, generator=generator))


def build(
    setting: Setting,
    depth: int,
    weights: list[Parameter],
    storage: str = "full",
    backend: str = "native",
) -> DWFOptimizer:
    """An optimizer with a setting's options."""
    s = setting
    options: dict[str, Any] = {"maximize": s.maximize, "storage": storage}
    if s.base == "SGD":
        options |= {"momentum": s.momentum, "dampening": s.dampening, "nesterov": s.nesterov}
    else:
        options |= {"betas": (s.beta1, s.beta2), "eps": s.eps, "amsgrad": s.amsgrad, "weight_decay": 0.0}
    with even_depths_allowed():
        return DWFOptimizer(
            weights,
            lr=s.lr,
            base=getattr(torch.optim, s.base),
            penalty=s.penalty,
            depth=depth,
            lr_scale=1.0,
            flush="dead" if s.flush else None,
            min_ndim=0,
            backend=backend,
            **options,
        )
