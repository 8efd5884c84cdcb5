"""Networks of this benchmark alone, in torch's default initialization; seed to network."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from benchmarks.text import CharTransformer

LAYERS, HEADS = 4, 4
VGG_WIDTHS = (16, 32, 64, 64)


def small_convolutions(seed: int) -> nn.Sequential:
    """Build two convolutions of 3x3 and two linear layers, for images of 1x8x8; 14 k parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
        )


def small_vgg(seed: int) -> nn.Sequential:
    """Build four convolutions of 3x3 with BatchNorms, for images of 3x32x32; 61 k parameters."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, width in itertools.pairwise((3, *VGG_WIDTHS)):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(VGG_WIDTHS[-1], 10))
        return nn.Sequential(*layers, *head)


def transformer(symbols: int, seed: int) -> CharTransformer:
    """Build `benchmarks.text.CharTransformer` with 4 layers of 4 heads and 256 neurons."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CharTransformer(symbols, heads=HEADS, layers=LAYERS)
