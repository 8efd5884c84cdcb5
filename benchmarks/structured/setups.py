"""Networks, their data, and what each method tries on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.data import Data, load_cifar10
from benchmarks.frontier.datasets import load
from benchmarks.frontier.networks import NETWORKS
from benchmarks.frontier.trial import device
from benchmarks.structured import networks
from benchmarks.structured.units import Group, Units, behind_norm, chain
from benchmarks.text import CONTEXT, load_text

Strengths = Mapping[str, tuple[float, ...]]
NONE = (0.0,)


@dataclass(frozen=True)
class Setup:
    """One table.

    Attributes:
        title: Of the table.
        what: Which units there are.
        build: The network from a seed.
        units: Of a network, layer by layer.
        load: The data, from the folder of data files; moved to the device.
        shape: Of one input, without the batch.
        strengths: What each method tries; a method that is not named is not run.
        epochs: Of a run, fine-tuning included.
        finetune: How many of them methods that fine-tune spend on what is left.
        lr: Highest rate of the cosine schedule.
        batch_size: Samples a step.
        augment: Whether images are moved and mirrored.
        kept: The shares of units that are left in the cut networks.
        rates: By method, where it is not ``lr``.
        text: Whether inputs are symbols, and every one has a target.
    """

    title: str
    what: str
    build: Callable[[int], nn.Module]
    units: Callable[[nn.Module], list[Units]]
    load: Callable[[Path], Data]
    shape: tuple[int, ...]
    strengths: Strengths
    epochs: int
    finetune: int
    lr: float = 0.1
    batch_size: int = 128
    augment: bool = False
    kept: tuple[float, ...] = (0.7, 0.5, 0.4, 0.3, 0.22, 0.16, 0.13, 0.1, 0.08, 0.06, 0.045, 0.03)
    rates: Mapping[str, float] = field(default_factory=dict)
    text: bool = False

    def example(self, batch: int) -> Tensor:
        """Return inputs of the right shape and dtype, of no meaning."""
        return torch.zeros(batch, *self.shape, dtype=torch.int64 if self.text else torch.float32)


def _named(*groups: tuple[str, str | tuple[str, int]]) -> Callable[[nn.Module], list[Units]]:
    return lambda model: [Units(Group(f"{name}.weight", structure)) for name, structure in groups]


def _blocks(inner: tuple[str, str, str]) -> Callable[[nn.Module], list[Units]]:
    """The channels between the two convolutions of each residual block; the sums stay whole."""

    def units(model: nn.Module) -> list[Units]:
        names = [name for name, _ in model.named_modules() if name.endswith(f".{inner[0]}")]
        blocks = [name.removesuffix(f".{inner[0]}") for name in names]
        return [behind_norm(*(f"{block}.{name}" for name in inner)) for block in blocks]

    return units


def _transformer(model: nn.Module) -> list[Units]:
    found = []
    for k in range(networks.LAYERS):
        found.append(Units(Group(f"layers.{k}.self_attn.in_proj_weight", ("qkv_head", networks.HEADS))))
        found.append(Units(Group(f"layers.{k}.linear1.weight", "neuron")))
    return found


def _files(name: str) -> Callable[[Path], Data]:
    return lambda folder: load(name, folder, device())


def _without_norm(dwf: tuple[float, ...], lasso: tuple[float, ...]) -> Strengths:
    # What is fine-tuned has as many tries as the group lasso.
    ours: Strengths = {"dwf-3": dwf, "dwf-2": dwf, "dwf-3-finetuned": dwf[: len(lasso)]}
    return {"dense": NONE, **ours, "l1-filters": NONE, "group-lasso": lasso}


def _with_norm(dwf: tuple[float, ...], lasso: tuple[float, ...], slim: tuple[float, ...]) -> Strengths:
    return {**_without_norm(dwf, lasso), "slimming": slim}


# What one CPU core affords. With all 50,000 images it takes a GPU.
_few_images = partial(load_cifar10, train=2500, validation=1000, test=2000)
# Nearly all of a LeNet on MNIST can go.
_FEW = (0.7, 0.5, 0.4, 0.3, 0.22, 0.16, 0.13, 0.1, 0.08, 0.06, 0.045, 0.03)
_large = (1e-4, 2e-4, 5e-4, 1e-3)
_published = {
    **_with_norm(_large, _large, (1e-5, 1e-4, 1e-3)),
    "dwf-4": _large,
    "dwf-3-finetuned": _large,
}

SETUPS: dict[str, Setup] = {
    "digits": Setup(
        "Small convolutions on digits",
        "filters, filters, neurons",
        networks.small_convolutions,
        _named(("0", "filter"), ("2", "filter"), ("6", "neuron")),
        _files("digits"),
        (1, 8, 8),
        {**_without_norm((8e-3, 4e-3), (8e-3, 4e-3)), "dwf-4": (8e-3,)},
        epochs=100,
        finetune=30,
    ),
    "lenet-5": Setup(
        "LeNet-5 on MNIST",
        "filters, filters, neurons",
        NETWORKS["LeNet-5"],
        _named(("0", "filter"), ("3", "filter"), ("7", "neuron")),
        _files("mnist"),
        (1, 28, 28),
        _without_norm((1e-2, 5e-3, 7e-3), (1e-2, 5e-3)),
        epochs=3,
        finetune=1,
        kept=_FEW,
    ),
    "lenet-300-100": Setup(
        "LeNet-300-100 on MNIST",
        "pixels, neurons, neurons",
        NETWORKS["LeNet-300-100"],
        _named(("1.0", "input"), ("1.2", "input"), ("1.4", "input")),
        _files("mnist"),
        (1, 28, 28),
        _without_norm((2e-3, 5e-3), (2e-3, 5e-3)),
        epochs=10,
        finetune=3,
        kept=_FEW,
    ),
    "small-vgg": Setup(
        "Small VGG on 2,500 images of CIFAR-10",
        "channels of every convolution",
        networks.small_vgg,
        chain,
        _few_images,
        (3, 32, 32),
        _with_norm((5e-3, 1e-2), (5e-3,), (1e-3,)),
        epochs=12,
        finetune=3,
        batch_size=64,
    ),
    "resnet-8": Setup(
        "ResNet-8 on 2,500 images of CIFAR-10",
        "channels inside residual blocks",
        NETWORKS["ResNet-8"],
        _blocks(("convolutions.0", "convolutions.1", "convolutions.3")),
        _few_images,
        (3, 32, 32),
        _with_norm((5e-3, 1e-2), (5e-3,), (1e-3,)),
        epochs=6,
        finetune=2,
        batch_size=64,
    ),
    "transformer": Setup(
        "Transformer of 4 layers on Python's help",
        "attention heads and neurons",
        lambda seed: networks.transformer(load_text()[1], seed),
        _transformer,
        lambda folder: load_text()[0],
        (CONTEXT,),
        _without_norm((5e-3, 1e-2), (5e-3,)),
        epochs=3,
        finetune=1,
        batch_size=32,
        # Few, because sums between layers are never cut, so there is no end where all is lost.
        kept=(0.7, 0.4, 0.22, 0.1, 0.03),
        text=True,
    ),
    # These two are for a GPU. The rates by depth are published (arXiv 2509.23898).
    "vgg-16": Setup(
        "VGG-16 on CIFAR-10",
        "channels of every convolution",
        NETWORKS["VGG-16"],
        chain,
        _files("cifar10"),
        (3, 32, 32),
        _published,
        epochs=160,
        finetune=40,
        augment=True,
        rates={"dwf-2": 0.3, "dwf-3": 0.4, "dwf-3-finetuned": 0.4, "dwf-4": 0.4},
    ),
    "resnet-18": Setup(
        "ResNet-18 on CIFAR-10",
        "channels inside residual blocks",
        NETWORKS["ResNet-18"],
        _blocks(("conv1", "bn1", "conv2")),
        _files("cifar10"),
        (3, 32, 32),
        _published,
        epochs=160,
        finetune=40,
        lr=0.2,
        augment=True,
        rates={"dwf-2": 0.2, "dwf-3": 0.3, "dwf-3-finetuned": 0.3, "dwf-4": 0.4},
    ),
}
