"""How fast are sparse convolutions, against the best dense runtime?

Run as ``python -m benchmarks.conv``; what is in ``results/conv.jsonl`` is skipped. Every way to compute
a layer takes its turn in every round, in one process, called from Python with NCHW in and out. A turn is
a call that is not timed, and then calls for some milliseconds; times are medians over rounds, and all
outputs are compared with torch's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.cells import run_cells
from benchmarks.conv_report import JUDGED, write_report
from benchmarks.dense_runtimes import dense_runtimes
from benchmarks.roofline import probes, with_roofline
from inference.graph import Conv2d, Graph
from inference.native import instruction_sets, lower
from inference.turns import medians_of_bursts


class Layer(NamedTuple):
    """A convolution with padding that keeps the size, but for the stride."""

    inputs: int
    filters: int
    size: int
    kernel: int = 3
    stride: int = 1


LAYERS = {
    "64x64x3x3@32": Layer(64, 64, 32),
    "128x128x3x3@16": Layer(128, 128, 16),
    "256x256x3x3@8": Layer(256, 256, 8),
    "512x512x3x3@4": Layer(512, 512, 4),
    "512x512x3x3@2": Layer(512, 512, 2),
    "128x256x3x3@16 stride 2": Layer(128, 256, 16, stride=2),
    "256x256x1x1@16": Layer(256, 256, 16, kernel=1),
}
ZEROS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.5, 0.7, 0.0)
BATCHES = (1, 16)
# torch.compile takes seconds to compile, and knows nothing of zeros.
COMPILED_AT = 0.95
# Sums of thousands of products in float32, in another order.
TOLERANCE = 1e-5


def configurations() -> list[dict[str, Any]]:
    """List what is measured, what the limits are for first."""
    return [
        {"layer": layer, "batch": batch, "zeros": zeros}
        for layers in (JUDGED, [name for name in LAYERS if name not in JUDGED])
        for zeros, layer, batch in itertools.product(ZEROS, layers, BATCHES)
    ]


def module(layer: Layer, zeros: float) -> nn.Conv2d:
    """Build a layer of which that share of weights is zero."""
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(*layer[:2], layer.kernel, layer.stride, layer.kernel // 2)
    with torch.no_grad():
        conv.weight.normal_(generator=generator)
        conv.weight *= torch.rand(conv.weight.shape, generator=generator) >= zeros
    return conv.eval()


def native(conv: nn.Conv2d, layer: Layer, kernel: str, instruction_set: str) -> Any:
    """Build the engine's program of one layer."""
    after = (layer.size - 1) // layer.stride + 1
    node = Conv2d(
        name="conv",
        inputs=("x",),
        output="y",
        weight=conv.weight.detach(),
        bias=None if conv.bias is None else conv.bias.detach(),
        stride=(layer.stride, layer.stride),
        padding=(layer.kernel // 2, layer.kernel // 2),
    )
    shapes = {"x": (layer.inputs, layer.size, layer.size), "y": (layer.filters, after, after)}
    graph = Graph(("x",), ("y",), (node,), shapes)
    return lower(graph, {"conv": kernel}, instruction_set).program


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time every way to compute one layer, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on.

    Returns:
        Median microseconds of every way, and of the roofline.

    Raises:
        ArithmeticError: If an output is not torch's.
    """
    torch.set_num_threads(1)
    layer, batch = LAYERS[config["layer"]], config["batch"]
    conv = module(layer, config["zeros"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, layer.inputs, layer.size, layer.size), np.float32)
    ways: dict[str, Callable[[], Any]] = {}
    for name, call in dense_runtimes(conv, x, compiled=config["zeros"] == COMPILED_AT).items():
        ways[name] = partial(call, x)
    expected = np.array(ways["torch"]())
    sets = [name for name in instruction_sets() if name != "baseline"] or ["baseline"]
    for kernel, name in [*(("sparse", name) for name in sets), ("dense", sets[-1])]:
        out = np.empty_like(expected)
        ways[f"{kernel} {name}"] = _bound(native(conv, layer, kernel, name), x, out)
    for name, run in ways.items():
        error = np.linalg.norm(np.array(run()) - expected) / np.linalg.norm(expected)
        if not error <= TOLERANCE:
            raise ArithmeticError(f"{name} is off by {error:.1e} at {config}")
    moved = sum(native(conv, layer, "sparse", sets[-1]).bytes) + x.nbytes + expected.nbytes
    times = medians_of_bursts({**ways, **probes(moved)}, seconds)
    return {name: 1e6 * taken for name, taken in with_roofline(times, _products(conv, x), moved).items()}


def _products(conv: nn.Conv2d, x: np.ndarray) -> float:
    """Count multiplications by weights that are not zero, and not with padding."""
    ones, mask = torch.ones(x.shape), (conv.weight != 0).float()
    with torch.no_grad():
        return float(nn.functional.conv2d(ones, mask, None, conv.stride, conv.padding).double().sum())


def _bound(program: Any, x: np.ndarray, out: np.ndarray) -> Callable[[], np.ndarray]:
    inputs, outputs = [x], [out]

    def run() -> np.ndarray:
        program.run(inputs, outputs)
        return out

    return run


def main() -> None:
    """Run what is missing and write the page."""
    run_cells("conv", __doc__, configurations(), measure, write_report)


if __name__ == "__main__":
    main()
