"""The networks of the experiments, ready to train; seed to network.

LeNets and ResNet-8 start as torch draws them, the others from normals of variance 2 / fan_in.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from benchmarks.models import DIGITS_MLP, LENET_300_100, lenet5, mlp, resnet8
from benchmarks.networks import resnet_18, vgg


def _flat(network: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), network)


def _fresh(network: nn.Module) -> nn.Module:
    """Undo what `benchmarks.networks` does for inference: BatchNorms begin as they do."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network.train()


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "MLP 64-300-100-10": lambda seed: _flat(mlp(DIGITS_MLP, seed)),
    "LeNet-300-100": lambda seed: _flat(mlp(LENET_300_100, seed)),
    "LeNet-5": lenet5,
    "ResNet-8": resnet8,
    "ResNet-18": lambda seed: _fresh(resnet_18(seed)),
    "VGG-16": lambda seed: _fresh(vgg(16, seed)),
    "VGG-19": lambda seed: _fresh(vgg(19, seed)),
}
