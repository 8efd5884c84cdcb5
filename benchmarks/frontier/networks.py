"""The networks of the experiments, ready to train; seed to network.

ResNet-18 and VGG start from normals of variance 2 / fan_in, the others as torch draws them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from benchmarks.models import DIGITS_MLP, LENET_300_100, lenet5, mlp, resnet8, small_vgg
from benchmarks.networks import resnet_18, vgg
from benchmarks.text import char_transformer, load_text


def _flat(network: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), network)


def _fresh(network: nn.Module) -> nn.Module:
    """Undo what `benchmarks.networks` does for inference: BatchNorms begin as they do."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network.train()


@functools.cache
def _symbols() -> int:
    return load_text()[1]


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "MLP 64-300-100-10": lambda seed: _flat(mlp(DIGITS_MLP, seed)),
    "LeNet-300-100": lambda seed: _flat(mlp(LENET_300_100, seed)),
    "LeNet-5": lenet5,
    "ResNet-8": resnet8,
    "small VGG": small_vgg,
    "transformer": lambda seed: char_transformer(_symbols(), seed),
    "ResNet-18": lambda seed: _fresh(resnet_18(seed)),
    "VGG-16": lambda seed: _fresh(vgg(16, seed)),
    "VGG-19": lambda seed: _fresh(vgg(19, seed)),
}
