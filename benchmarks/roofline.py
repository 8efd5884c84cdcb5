"""How fast could a layer be on this machine at this moment, beside whatever else runs on it?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

ROOFLINE = "roofline"
_PEAK, _STREAM = "peak", "stream"
# A product of matrices that caches hold and libraries do best.
_SIZE = 512
# Bytes from which the call itself does not count; what is less lies in caches all the more.
_LEAST_BYTES = 1 << 20
FLOAT = 4


def probes(moved: int) -> dict[str, Callable[[], object]]:
    """Make what shows the machine's speed: dense products, and reading as many bytes again and again.

    Args:
        moved: Bytes of packed weights, inputs and outputs.

    Returns:
        Ways to be timed in turns with the layer's.
    """
    matrix = torch.ones(_SIZE, _SIZE)
    read = torch.ones(_read(moved) // FLOAT // 2, 2).unbind(1)
    halves = [half.contiguous() for half in read]
    return {
        _PEAK: functools.partial(torch.mm, matrix, matrix, out=torch.empty_like(matrix)),
        _STREAM: functools.partial(torch.dot, *halves),
    }


def with_roofline(times: Mapping[str, float], products: float, moved: int) -> dict[str, float]:
    r"""Replace the probes' times by the least that the layer could take.

    .. math:: \max(\text{products} / \text{peak},\ \text{bytes} / \text{stream})

    Args:
        times: Of all ways, the probes among them.
        products: Multiplications by weights that are not zero.
        moved: As given to `probes`.

    Returns:
        The times, with `ROOFLINE` among them.
    """
    ways = dict(times)
    computing = ways.pop(_PEAK) * products / _SIZE**3
    reading = ways.pop(_STREAM) * moved / _read(moved)
    return {**ways, ROOFLINE: max(computing, reading)}


def _read(moved: int) -> int:
    return max(moved, _LEAST_BYTES)
