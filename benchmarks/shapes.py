"""Parameter shapes of usual models, without the models."""

from __future__ import annotations

import itertools
import math

Shape = tuple[int, ...]


def _linear(fan_in: int, fan_out: int) -> list[Shape]:
    return [(fan_out, fan_in), (fan_out,)]


def _convolution(channels_in: int, channels_out: int, size: int = 3) -> list[Shape]:
    """A convolution without bias and the batch norm behind it."""
    return [(channels_out, channels_in, size, size), (channels_out,), (channels_out,)]


def _lenet300() -> list[Shape]:
    return _linear(784, 300) + _linear(300, 100) + _linear(100, 10)


def _resnet18() -> list[Shape]:
    """As used on CIFAR: 3x3 stem, four stages of two blocks."""
    shapes = _convolution(3, 64)
    before = 64
    for width in (64, 128, 256, 512):
        shapes += _convolution(before, width) + 3 * _convolution(width, width)
        if before != width:
            shapes += _convolution(before, width, size=1)
        before = width
    return shapes + _linear(512, 10)


def _vgg19() -> list[Shape]:
    """As used on CIFAR: 16 convolutions and one linear layer."""
    widths = [3] + 2 * [64] + 2 * [128] + 4 * [256] + 8 * [512]
    shapes = [shape for pair in itertools.pairwise(widths) for shape in _convolution(*pair)]
    return shapes + _linear(512, 100)


def _gpt2_small() -> list[Shape]:
    width, norm = 768, [(768,), (768,)]
    block = norm + _linear(width, 3 * width) + _linear(width, width) + norm
    block += _linear(width, 4 * width) + _linear(4 * width, width)
    return [(50257, width), (1024, width), *(12 * block), *norm]


SETS: dict[str, list[Shape]] = {
    "lenet300": _lenet300(),
    "resnet18": _resnet18(),
    "vgg19": _vgg19(),
    "gpt2-small": _gpt2_small(),
    "many-small": [(8, 8) for _ in range(2000)],
}


def elements(name: str) -> int:
    """Count the parameters of a set."""
    return sum(math.prod(shape) for shape in SETS[name])
