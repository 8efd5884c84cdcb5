"""Three kinds of network that train in seconds on one core, with their data and learning rates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.data import Data, Split, load_mnist
from benchmarks.models import LENET_300_100, lenet5, mlp
from benchmarks.text import char_transformer, load_text
from benchmarks.training_runs import Run
from dwf_optim import DWFOptimizer, param_groups

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
}


@dataclass(frozen=True)
class SmallNet:
    """A network and how it is trained.

    Attributes:
        name: What it is called in tables.
        make: Builds it, from a seed.
        data: Loads its data, from the folder of MNIST.
        lr: Highest rate of the cosine schedule, by base.
        batch_size: Samples a step.
        steps: Of a run.
        clip: Largest norm of the gradient; None lets it be.
    """

    name: str
    make: Callable[[int], nn.Module]
    data: Callable[[Path], Data]
    lr: Mapping[str, float]
    batch_size: int
    steps: int
    clip: float | None = None

    def run(self, base: str, *, depth: int, penalty: float, seed: int) -> Run:
        """Build network and optimizer; what `param_groups` would not factorize stays dense."""
        optimizer_class, options = BASES[base]
        model = self.make(seed)
        optimizer = DWFOptimizer(
            param_groups(model, penalty=penalty, depth=depth),
            lr=self.lr[base],
            base=optimizer_class,
            seed=seed,
            **options,
        )
        return Run(
            model,
            optimizer,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=seed,
            clip=self.clip,
        )


@functools.cache
def _mnist(folder: Path) -> Data:
    return load_mnist(folder, "standard")


@functools.cache
def _images(folder: Path) -> Data:
    data = _mnist(folder)
    parts = (data.train, data.validation, data.test)
    images = (Split(part.inputs.view(-1, 1, 28, 28), part.targets) for part in parts)
    train, validation, test = images
    # Half of the test images: here a test costs as much as a run.
    return Data(train, validation, Split(test.inputs[::2], test.targets[::2]))


@functools.cache
def _text() -> tuple[Data, int]:
    return load_text()


NETS = {
    "mlp": SmallNet(
        "LeNet-300-100, MNIST",
        make=lambda seed: mlp(LENET_300_100, seed),
        data=_mnist,
        lr={"sgd": 0.1, "adam": 3e-3},
        batch_size=128,
        steps=600,
    ),
    "cnn": SmallNet(
        "LeNet-5, MNIST",
        make=lenet5,
        data=_images,
        lr={"sgd": 0.03, "adam": 3e-3},
        batch_size=32,
        steps=200,
    ),
    "transformer": SmallNet(
        "transformer, text",
        make=lambda seed: char_transformer(_text()[1], seed),
        data=lambda folder: _text()[0],
        lr={"sgd": 0.1, "adam": 1e-2},
        batch_size=8,
        steps=400,
        clip=1.0,
    ),
}
