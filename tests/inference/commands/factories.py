"""What ``--model tests.inference.commands.factories:NAME`` names."""

from __future__ import annotations

import torch
from torch import nn

FEATURES, CLASSES = 12, 4


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
    )


class Embedded(nn.Module):
    """Takes numbers and indices."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 6)
        self.out = nn.Linear(FEATURES + 6, CLASSES)

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([x, self.table(index)], 1))


class Sinc(nn.Module):
    """What ONNX has no operator for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sinc(x)


def sinc() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 32), Sinc(), nn.Linear(32, CLASSES))


not_a_model = 3


def needs_arguments(width: int) -> nn.Module:
    return nn.Linear(width, width)


def gives_a_number() -> int:
    return 3


built = mlp()
