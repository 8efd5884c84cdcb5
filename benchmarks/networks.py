"""The networks that inference is measured and tested on, with settled BatchNorms and exact zeros.

Every builder takes the seed of its weights and gives a network in eval mode; `NETWORKS` has the shape of
one example for each. Convolutional ones are the versions for CIFAR (3x32x32), so none needs torchvision.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import models

VGG_WIDTHS = {
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


def lenet_300_100(seed: int) -> nn.Module:
    """Build the MLP of pruning papers; images come in flat."""
    return models.mlp(models.LENET_300_100, seed).eval()


def lenet_5(seed: int) -> nn.Module:
    """Build Caffe's LeNet-5 (20-50-500-10), the one of pruning papers."""
    return _settle(
        lambda: nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        ),
        seed,
    )


def vgg(depth: int, seed: int) -> nn.Module:
    """Build VGG with BatchNorm and one linear layer.

    Args:
        depth: 16 or 19.
        seed: Of the weights.

    Returns:
        The network.
    """

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        before = 3
        for stage in VGG_WIDTHS[depth]:
            for width in stage:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before, 10))

    return _settle(build, seed)


class BasicBlock(nn.Module):
    """ResNet's block of two convolutions."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.shortcut(x)
        return torch.relu(y)


class PreActBlock(nn.Module):
    """ResNet's block with BatchNorm and ReLU in front of the convolutions."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if before != width else None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(x))
        short = x if self.shortcut is None else self.shortcut(y)
        return torch.add(self.conv2(torch.relu(self.bn2(self.conv1(y)))), short)


def resnet_18(seed: int) -> nn.Module:
    """Build ResNet-18 with a 3x3 stem."""

    def build() -> nn.Module:
        widths = (64, 64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            blocks += [BasicBlock(before, width, 1 + (width != before)), BasicBlock(width, width, 1)]
        stem = (nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))

    return _settle(build, seed)


def preact_resnet(seed: int) -> nn.Module:
    """Build a small pre-activation ResNet: BatchNorms that follow a sum, not a layer."""

    def build() -> nn.Module:
        blocks = [PreActBlock(16, 16, 1), PreActBlock(16, 32, 2), PreActBlock(32, 32, 1)]
        head = (nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
        return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *blocks, *head)

    return _settle(build, seed)


def mobilenet(seed: int) -> nn.Module:
    """Build a small MobileNet: depthwise and pointwise convolutions, ReLU6."""

    def build() -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU6()]
        for before, width, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2)):
            layers += [
                nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False),
                nn.BatchNorm2d(before),
                nn.ReLU6(),
                nn.Conv2d(before, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU6(),
            ]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10))
        return nn.Sequential(*layers, *head)

    return _settle(build, seed)


class DenseBlock(nn.Module):
    """Layers that read all that was made before them, as in DenseNet."""

    def __init__(self, before: int, growth: int, layers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(before + i * growth) for i in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(before + i * growth, growth, 3, padding=1, bias=False) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat((x, conv(torch.relu(norm(x)))), 1)
        return x


def densenet(seed: int) -> nn.Module:
    """Build a small DenseNet: concatenations, average pools."""

    def build() -> nn.Module:
        between = (nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 20, 1), nn.AvgPool2d(2))
        head = (nn.BatchNorm2d(44), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(44, 10))
        body = (DenseBlock(16, 8, 3), *between, DenseBlock(20, 8, 3))
        return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *body, *head)

    return _settle(build, seed)


def transformer_encoder(
    seed: int, *, width: int = 256, heads: int = 4, hidden: int = 1024, layers: int = 4
) -> nn.Module:
    """Build a transformer encoder on ``[batch, tokens, width]``."""

    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(width, heads, hidden, activation="gelu", batch_first=True)
        return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    return _settle(build, seed)


def prune_(model: nn.Module, sparsity: float, seed: int = 0) -> nn.Module:
    """Zero the smallest weights of all linear and convolutional layers together, in place.

    Magnitudes are in units of their layer's root mean square, and what stays is scaled to the layer's
    norm before. An untrained network would lose whole layers otherwise, the wide ones, and no signal
    would reach its outputs.

    Args:
        model: With Linear, Conv2d or MultiheadAttention modules.
        sparsity: Share of their weights that becomes zero, in [0, 1).
        seed: Of the choice among equal magnitudes.

    Returns:
        The model.

    Raises:
        ValueError: If the sparsity is out of range.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must lie in [0, 1), got {sparsity}")
    weights = [weight.detach() for weight in _weights(model)]
    scores = torch.cat([(w / w.square().mean().sqrt()).abs().flatten() for w in weights])
    count = round(sparsity * scores.numel())
    if not count:
        return model
    limit = scores.kthvalue(count).values
    dropped = scores < limit
    ties = (scores == limit).nonzero().flatten()
    order = torch.randperm(len(ties), generator=torch.Generator().manual_seed(seed))
    dropped[ties[order[: count - int(dropped.sum())]]] = True
    for weight, drop in zip(weights, dropped.split([w.numel() for w in weights]), strict=True):
        before = weight.norm()
        weight[drop.view_as(weight)] = 0
        if weight.count_nonzero():
            weight *= before / weight.norm()
    return model


def _weights(model: nn.Module) -> list[Tensor]:
    """Collect the weights of matrix products, each once however often it is used."""
    found: dict[Tensor, None] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            found[module.weight] = None
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found[module.in_proj_weight] = None
    return list(found)


def _settle(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network with weights that keep signals alive and BatchNorms as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for weight in _weights(model):
            # One distribution for all, so that pruning treats all alike.
            nn.init.normal_(weight, std=math.sqrt(2 / weight[0].numel()))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
    return model.eval()


class Network(NamedTuple):
    """A network of the zoo.

    Attributes:
        build: Makes it from a seed.
        shape: Of one example.
    """

    build: Callable[[int], nn.Module]
    shape: tuple[int, ...]


NETWORKS = {
    "lenet_300_100": Network(lenet_300_100, (784,)),
    "lenet_5": Network(lenet_5, (1, 28, 28)),
    "vgg_16": Network(lambda seed: vgg(16, seed), (3, 32, 32)),
    "vgg_19": Network(lambda seed: vgg(19, seed), (3, 32, 32)),
    "resnet_18": Network(resnet_18, (3, 32, 32)),
    "preact_resnet": Network(preact_resnet, (3, 32, 32)),
    "mobilenet": Network(mobilenet, (3, 32, 32)),
    "densenet": Network(densenet, (3, 32, 32)),
    "transformer_encoder": Network(transformer_encoder, (64, 256)),
}
