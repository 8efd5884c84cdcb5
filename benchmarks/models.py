"""The benchmarks' networks, in torch's default initialization."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

DIGITS_MLP = (64, 300, 100, 10)
LENET_300_100 = (784, 300, 100, 10)


def mlp(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Build linear layers with ReLUs between them.

    Args:
        widths: Features of the input, of every hidden layer and of the output.
        seed: Of the initial weights; torch's own random stream is left as it was.

    Returns:
        The network.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet5(seed: int) -> nn.Sequential:
    """Build LeNet-5 as pruning papers use it: 20 and 50 filters of 5x5, then 500 and 10 units.

    Args:
        seed: As of `mlp`.

    Returns:
        The network, for images of 1x28x28; 431 k parameters.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
        )


def small_vgg(seed: int, widths: Sequence[int] = (16, 32, 64)) -> nn.Sequential:
    """Build convolutions of 3x3 with batch norms, each halving the image, and one linear layer.

    Args:
        seed: As of `mlp`.
        widths: Filters of each convolution.

    Returns:
        The network, for images of 3x32x32; 34 k parameters.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, width in itertools.pairwise((3, *widths)):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        side = 32 >> len(widths)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side**2, 10))


class ResidualBlock(nn.Module):
    """Two convolutions of 3x3 with batch norms, beside the identity or a convolution of 1x1."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels_out else 2
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),),
            *(nn.BatchNorm2d(channels_out), nn.ReLU()),
            *(nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to images."""
        return torch.relu(self.convolutions(x) + self.shortcut(x))


def resnet8(seed: int) -> nn.Sequential:
    """Build a ResNet of one block at each of 16, 32 and 64 channels.

    Args:
        seed: As of `mlp`.

    Returns:
        The network, for images of 3x32x32; 78 k parameters.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(ResidualBlock(16, 16), ResidualBlock(16, 32), ResidualBlock(32, 64)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )
