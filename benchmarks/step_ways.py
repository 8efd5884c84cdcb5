"""The ways to step one set of parameters: functions that take a step and return its seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from benchmarks.product import Product
from benchmarks.shapes import SETS, elements
from dwf_optim import DWFOptimizer
from dwf_optim.step import BACKENDS

Config = dict[str, Any]
Way = Callable[[], float]

# Options, and tensors of base state per factor.
BASES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "SGD": (torch.optim.SGD, {}, 0),
    "SGD momentum": (torch.optim.SGD, {"momentum": 0.9}, 1),
    "Adam": (torch.optim.Adam, {}, 2),
    "AdamW": (torch.optim.AdamW, {}, 2),
}
DENSE, STREAM, PARAMETRIZE = "dense fused", "stream", "parametrize"
PATHS = ("reference", "blocked", "compiled", "native", PARAMETRIZE)
FLOAT = 4
# Beyond so many parameters the slow ways are timed at one depth, with one thread, under two bases.
LARGE = 100_000_000
# The largest stream, in floats: well out of any cache.
MOST_STREAMED = 2**27
# Compilation takes half a minute, so it is timed here only.
COMPILED = {
    "set": ("lenet300", "resnet18"),
    "base": ("SGD momentum", "Adam"),
    "depth": (3,),
    "threads": (1,),
}
# Rates at which hundreds of steps on one gradient leave the weights ordinary numbers.
LR, PENALTY = 1e-6, 1e-4


def paths_of(config: Config, memory: float) -> list[str]:
    """List the paths to time for a configuration.

    Args:
        config: One of `benchmarks.step.configurations`.
        memory: In GB; what needs more is left out.
    """
    if config["depth"] == 1:
        return ["native"]  # nothing is factorized: "auto", which is the base
    if config["storage"] != "full":
        return ["blocked", "native"]
    paths = ["blocked", "native"]
    central = config["depth"] == 3 and config["threads"] == 1
    if elements(config["set"]) < LARGE or (central and config["base"] in ("SGD momentum", "Adam")):
        paths = ["reference", *paths]
        if footprint(config, parametrized=True) <= memory * 1e9:
            paths = [*paths, PARAMETRIZE]
    if "compiled" in BACKENDS and all(config[key] in values for key, values in COMPILED.items()):
        paths = [*paths, "compiled"]
    return paths


def moved(config: Config) -> int:
    """Return the bytes that a step at least reads and writes, by parameter: its floor."""
    states = BASES[config["base"]][2]
    kept = _kept(config)
    if kept == 0:  # the weight is read too: it is all there is
        return FLOAT * (1 + 2 + 2 * states)
    return FLOAT * (1 + 1 + 2 * kept + 2 * _parts(config) * states)


def dense_moved(config: Config) -> int:
    """Return the same of the base's own step."""
    return FLOAT * (1 + 2 + 2 * BASES[config["base"]][2])


def footprint(config: Config, parametrized: bool = False) -> int:
    """Return the bytes of all ways: weights twice, one gradient, all states, and the stream."""
    states = BASES[config["base"]][2]
    per_weight = 2 + 1 + states + _kept(config) + _parts(config) * states
    if parametrized:  # factors, their gradients and states, and two products at a time
        per_weight += config["depth"] * (2 + states) + 2
    return FLOAT * (elements(config["set"]) * per_weight + streamed(config))


def streamed(config: Config) -> int:
    """Return the floats in a stream that moves as much memory as the step does."""
    return min(elements(config["set"]) * moved(config) // (2 * FLOAT), MOST_STREAMED)


def _kept(config: Config) -> int:
    """Tensors that the storage keeps of a weight's factors."""
    if config["depth"] == 1:
        return 0
    kept: dict[str, int] = {"full": config["depth"], "tied": 1, "ephemeral": 0}
    return kept[config["storage"]]


def _parts(config: Config) -> int:
    """What the base steps."""
    return max(1, _kept(config))


def make_ways(config: Config, paths: list[str]) -> dict[str, Way]:
    """Build the dense step, the stream and the paths, over copies of the same parameters."""
    base, options, _ = BASES[config["base"]]
    dense = make_parameters(config["set"])
    plain = base(dense, lr=LR, fused=True, **options)
    stream = torch.ones(streamed(config))
    ways = {
        DENSE: lambda: timed(plain.step),
        STREAM: lambda: timed(lambda: stream.mul_(1.0000001)),
    }
    ours = make_optimizer(config, _copies(dense))
    for path in paths:
        ways[path] = _parametrized(config, dense) if path == PARAMETRIZE else _path(ours, path)
    return ways


def make_parameters(name: str) -> list[Parameter]:
    """Return a set's parameters, with gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = [Parameter(torch.empty(shape)) for shape in SETS[name]]
    for p in parameters:
        torch.nn.init.normal_(p, std=0.05, generator=generator)
        p.grad = torch.empty_like(p).normal_(std=1e-3, generator=generator)
    return parameters


def make_optimizer(config: Config, parameters: list[Parameter]) -> DWFOptimizer:
    """Build ours over parameters."""
    base, options, _ = BASES[config["base"]]
    factorized = config["depth"] > 1
    return DWFOptimizer(
        parameters,
        lr=LR,
        base=base,
        penalty=PENALTY,
        lr_scale=1.0,
        depth=config["depth"],
        storage=config["storage"] if factorized else "full",
        init="balanced" if factorized else None,
        **options,
    )


def make_parametrized(config: Config, like: list[Parameter]) -> Callable[[], None]:
    """Return what `torch.nn.utils.parametrize` does in a training iteration for what our step does.

    That is the product of the factors at the weight's first use, the backward pass from the weight's
    gradient through it, and the base's fused step on the factors with weight decay 2 penalty / D.
    """
    base, options, _ = BASES[config["base"]]
    depth = config["depth"]
    modules: list[nn.Module] = []
    grads: list[Any] = []
    others: list[Parameter] = []
    for p in like:
        if p.ndim < 2:
            others.append(Parameter(p.detach().clone()))
            others[-1].grad = p.grad
            continue
        module = nn.Module()
        module.weight = Parameter(p.detach().clone())
        parametrize.register_parametrization(module, "weight", Product(depth))
        modules.append(module)
        grads.append(p.grad)
    factors = list(itertools.chain.from_iterable(module.parameters() for module in modules))
    groups: list[dict[str, Any]] = [
        {"params": factors, "weight_decay": 2 * PENALTY / depth},
        {"params": others},
    ]
    optimizer = base([group for group in groups if group["params"]], lr=LR, fused=True, **options)

    def step() -> None:
        for p in factors:
            p.grad = None
        weights: list[Any] = [module.weight for module in modules]
        torch.autograd.backward(weights, grads)
        optimizer.step()

    return step


def timed(step: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _path(ours: DWFOptimizer, path: str) -> Way:
    def turn() -> float:
        ours.backend = path if ours.defaults["depth"] > 1 else "auto"
        ours.step()  # after another backend the weights are compared once
        return timed(ours.step)

    return turn


def _parametrized(config: Config, dense: list[Parameter]) -> Way:
    step = make_parametrized(config, dense)
    return lambda: timed(step)


def _copies(parameters: list[Parameter]) -> list[Parameter]:
    copies = [Parameter(p.detach().clone()) for p in parameters]
    for p, q in zip(parameters, copies, strict=True):
        q.grad = p.grad
    return copies
