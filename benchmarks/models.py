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
