"""What is run: networks, data, methods, and how many runs each may use to be tuned."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.frontier.methods import METHODS

# Learning rates of methods that have no strength.
LRS = (0.01, 0.03, 0.1, 0.3)

Config = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One figure: a network on a data set, and every method over the compressions."""

    data: str
    network: str
    epochs: int
    batch_size: int
    compressions: tuple[float, ...]
    augment: bool = False
    momentum: float = 0.9
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = tuple(METHODS)
    # Learning rates of methods that have four strengths, which makes eight runs; the others have four.
    rates: tuple[float, ...] = (0.03, 0.1)
    # Largest norm of the gradient, and how many samples are trained on and chosen by; None: no limit.
    clip: float | None = None
    samples: int | None = None
    note: str = ""

    def tuning(self, methods: Iterable[str] | None = None) -> list[Config]:
        """List the runs by which each method's rate and strength are chosen, on validation data.

        Args:
            methods: Only these.
        """
        return [
            self._config(name, lr, strength, 0, compressions, "validation")
            for name in methods or self.methods
            for compressions in self._trainings(name)
            for lr, strength in self.grid(name)
        ]

    def grid(self, method: str) -> list[tuple[float, float]]:
        """Return the rates and strengths that a method is tuned over."""
        strengths = METHODS[method].strengths
        return list(itertools.product(LRS if len(strengths) == 1 else self.rates, strengths))

    def final(self, chosen: dict[tuple[str, float], tuple[float, float]]) -> list[Config]:
        """List the runs of the table, the only ones that see the test set: all seeds of every choice.

        Args:
            chosen: For a method and a compression, rate and strength.
        """
        runs: dict[tuple[str, float, float], list[float]] = {}
        for (name, compression), (lr, strength) in chosen.items():
            runs.setdefault((name, lr, strength), []).append(compression)
        return [
            self._config(name, lr, strength, seed, compressions, "test")
            for (name, lr, strength), asked in runs.items()
            for compressions in ([asked] if METHODS[name].serves_all else [[c] for c in asked])
            for seed in self.seeds
        ]

    def compressions_of(self, name: str) -> tuple[float, ...]:
        """Return what a method is run at; the dense network is what it is."""
        return (1.0,) if name == "dense" else self.compressions

    def _trainings(self, name: str) -> list[list[float]]:
        compressions = self.compressions_of(name)
        return [list(compressions)] if METHODS[name].serves_all else [[c] for c in compressions]

    def _config(
        self,
        method: str,
        lr: float,
        strength: float,
        seed: int,
        compressions: list[float],
        measure: str,
    ) -> Config:
        # A limit is named only where there is one, so that other runs keep their keys.
        limits = {"clip": self.clip, "samples": self.samples}
        return {
            "data": self.data,
            "network": self.network,
            "method": method,
            "lr": lr,
            "strength": strength,
            "momentum": self.momentum,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "augment": self.augment,
            "seed": seed,
            "compressions": compressions,
            "measure": measure,
            **{name: value for name, value in limits.items() if value is not None},
        }


def key(config: Config) -> str:
    """Return a configuration's hash, by which a run is known to be done."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


SMALL = (3.0, 10.0, 31.6)
CIFAR = (10.0, 31.6, 100.0, 316.0, 1000.0)
EXPERIMENTS = {
    # Of no scientific use, but it needs no data and takes minutes: to see that all works.
    "digits": Experiment("digits", "MLP 64-300-100-10", 30, 32, (10.0, 50.0)),
    "mnist-lenet-300-100": Experiment(
        "mnist",
        "LeNet-300-100",
        20,
        128,
        (20.0, 50.0, 100.0, 200.0, 500.0),
        rates=(0.1, 0.15),
        note="These two: at 0.03 factors made hardly any zeros; at 0.2 some seeds of depth 3 diverged.",
    ),
    "mnist-lenet-5": Experiment("mnist", "LeNet-5", 10, 128, (20.0, 100.0, 300.0, 500.0)),
    "text-transformer": Experiment(
        "text",
        "transformer",
        5,
        32,
        (2.0, 5.0, 10.0, 20.0),
        methods=tuple(name for name in METHODS if name != "synflow"),
        clip=1.0,
        note="SynFlow is left out: it puts ones into a network, and this one takes characters.",
    ),
    # Small enough for a CPU, so that what the large ones need is tested.
    "cifar10-small-vgg": Experiment("cifar10", "small VGG", 10, 128, SMALL, augment=True, samples=5000),
    "cifar10-resnet-8": Experiment("cifar10", "ResNet-8", 10, 128, SMALL, augment=True, samples=5000),
    "cifar10-resnet-18": Experiment("cifar10", "ResNet-18", 160, 128, CIFAR, augment=True),
    "cifar10-vgg-16": Experiment("cifar10", "VGG-16", 160, 128, CIFAR, augment=True),
    "cifar10-vgg-19": Experiment("cifar10", "VGG-19", 160, 128, CIFAR, augment=True),
}
