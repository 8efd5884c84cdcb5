"""How fast are sparse linear layers, against the best dense runtime?

Run as ``python -m benchmarks.linear``; what is in ``results/linear.jsonl`` is skipped. Every way to
compute a layer takes its turn in every round, in one process, called from Python with rows of samples
in and out (and once in the kernels' own layout); times are medians over rounds, and all outputs are
compared with torch's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.cells import run_cells
from benchmarks.csr_runtimes import BACKENDS, csr_runtime
from benchmarks.dense_runtimes import dense_runtimes
from benchmarks.linear_report import LENET, OWN_LAYOUT, write_report
from benchmarks.roofline import probes, with_roofline
from inference.graph import Activation, Graph, Linear
from inference.native import instruction_sets, lower
from inference.turns import medians_of_bursts

# Outputs x inputs.
LAYERS = {
    "300x784": (300, 784),
    "100x300": (100, 300),
    "512x512": (512, 512),
    "1024x1024": (1024, 1024),
    "4096x1024": (4096, 1024),
    "4096x4096": (4096, 4096),
}
LENET_SIZES = (784, 300, 100, 10)
ZEROS = (0.9, 0.95, 0.98, 0.99, 0.5, 0.6, 0.7, 0.8, 0.998)
BATCHES = (1, 64, 8, 256)
# Where the products of other libraries are measured too: elsewhere they take long to lose.
CSR_FROM, CSR_BATCHES = 0.9, (1, 64)
# torch.compile takes seconds to compile, and knows nothing of zeros.
COMPILED_AT, COMPILED_BATCHES = 0.95, (1, 64)
# Sums of thousands of products in float32, in another order.
TOLERANCE = 1e-5
ALIGNMENT = 64


def configurations() -> list[dict[str, Any]]:
    """List what is measured."""
    return [
        {"layer": layer, "batch": batch, "zeros": zeros}
        for batch, zeros, layer in itertools.product(BATCHES, ZEROS, (*LAYERS, LENET))
    ]


def module(layer: str, zeros: float) -> nn.Sequential:
    """Build one layer, or LeNet-300-100, of which that share of weights is zero."""
    generator = torch.Generator().manual_seed(0)
    sizes = LENET_SIZES if layer == LENET else LAYERS[layer][::-1]
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        linear = nn.Linear(inputs, outputs)
        with torch.no_grad():
            linear.weight.normal_(generator=generator)
            linear.weight *= torch.rand(linear.weight.shape, generator=generator) >= zeros
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def native(model: nn.Sequential, kernel: str, instruction_set: str) -> Any:
    """Build the engine's program."""
    linears = [part for part in model if isinstance(part, nn.Linear)]
    names = [f"v{k}" for k in range(len(linears) + 1)]
    nodes = tuple(
        Linear(
            name=f"linear{k}",
            inputs=(names[k],),
            output=names[k + 1],
            weight=linear.weight.detach(),
            bias=linear.bias.detach(),
            activation=Activation("relu") if k + 1 < len(linears) else None,
        )
        for k, linear in enumerate(linears)
    )
    widths = [linears[0].in_features, *(linear.out_features for linear in linears)]
    shapes = {name: (width,) for name, width in zip(names, widths, strict=True)}
    graph = Graph(("v0",), (names[-1],), nodes, shapes)
    return lower(graph, {node.name: kernel for node in nodes}, instruction_set).program


def tile(batch: int) -> int:
    """Return the narrowest tile that holds a batch, or the widest."""
    return next((lanes for lanes in (1, 16, 32) if batch <= lanes), 64)


def measure(config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Time every way to compute a layer, in turns.

    Args:
        config: One of `configurations`.
        seconds: How long to go on.

    Returns:
        Median microseconds of every way, and of the roofline.

    Raises:
        ArithmeticError: If an output is not torch's.
    """
    torch.set_num_threads(1)
    batch = config["batch"]
    model = module(config["layer"], config["zeros"])
    first = model[0]
    assert isinstance(first, nn.Linear)
    x = np.random.default_rng(0).standard_normal((batch, first.in_features), np.float32)
    ways: dict[str, Callable[[], Any]] = {}
    compiled = config["zeros"] == COMPILED_AT and batch in COMPILED_BATCHES
    for name, call in dense_runtimes(model, x, compiled=compiled).items():
        ways[name] = functools.partial(call, x)
    expected = np.array(ways["torch"]())
    if config["zeros"] >= CSR_FROM and batch in CSR_BATCHES:
        for name, backend in BACKENDS.items():
            ways[name] = functools.partial(csr_runtime(model, backend), x)
    sets = [name for name in instruction_sets() if name != "baseline"] or ["baseline"]
    for kernel, name in itertools.product(("sparse", "dense"), sets):
        ways[f"{kernel} {name}"] = _rows(native(model, kernel, name), x, np.empty_like(expected))
    timed = dict(ways)
    if batch % tile(batch) == 0:
        tiles = _Tiles(native(model, "sparse", sets[-1]), x, np.empty_like(expected))
        ways[OWN_LAYOUT], timed[OWN_LAYOUT] = tiles.rows, tiles.run
    for name, run in ways.items():
        error = np.linalg.norm(np.array(run()) - expected) / np.linalg.norm(expected)
        if not error <= TOLERANCE:
            raise ArithmeticError(f"{name} is off by {error:.1e} at {config}")
    weights = [part.weight for part in model if isinstance(part, nn.Linear)]
    products = batch * sum(int(weight.count_nonzero()) for weight in weights)
    moved = sum(native(model, "sparse", sets[-1]).bytes) + x.nbytes + expected.nbytes
    times = medians_of_bursts({**timed, **probes(moved)}, seconds)
    return {name: 1e6 * taken for name, taken in with_roofline(times, products, moved).items()}


def _rows(program: Any, x: np.ndarray, out: np.ndarray) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        program.run(x, out)
        return out

    return run


class _Tiles:
    """A program called in the kernels' own layout."""

    def __init__(self, program: Any, x: np.ndarray, out: np.ndarray) -> None:
        self.program, self.out = program, out
        lanes = tile(len(x))
        self.x = _aligned((len(x) // lanes, x.shape[1], lanes))
        self.x[:] = x.reshape(-1, lanes, x.shape[1]).transpose(0, 2, 1)
        self.made = _aligned((len(x) // lanes, out.shape[1], lanes))

    def run(self) -> None:
        self.program.run_tiles(self.x, self.made)

    def rows(self) -> np.ndarray:
        """Run, and return rows of samples, to be compared."""
        self.run()
        self.out[:] = self.made.transpose(0, 2, 1).reshape(self.out.shape)
        return self.out


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    room = np.zeros(size + ALIGNMENT // 4, np.float32)
    start = -room.ctypes.data // 4 % (ALIGNMENT // 4)
    return room[start : start + size].reshape(shape)


def main() -> None:
    """Run what is missing and write the page."""
    run_cells("linear", __doc__, configurations(), measure, write_report)


if __name__ == "__main__":
    main()
