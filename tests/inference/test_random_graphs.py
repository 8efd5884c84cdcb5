"""Random graphs through everything behind the capture, against float64.

Compaction, plan, kernels of every instruction set, and torch where there is no kernel.
"""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from inference import native
from inference.compact import compact
from inference.interpret import run, to_dtype
from inference.plan import Choice
from inference.runner import Runner
from inference.segments import cut
from tests.inference.graphs import graphs
from tests.inference.magnitudes import magnitudes

# As promised for every kernel; of the sums of absolute terms, which for outputs that do not cancel are
# the outputs themselves.
TOLERANCE = 1e-5

ways = st.sampled_from([*(native.instruction_sets() or ("",)), "torch"])


def drawn_input(shape, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *shape, generator=generator)
    # A third of the numbers are zero, as behind a ReLU.
    return x * (torch.rand(x.shape, generator=generator) > 1 / 3)


@given(
    graph=graphs(),
    batch=st.integers(1, 33),
    seed=st.integers(0, 2**32 - 1),
    way=ways,
    kernels=st.sampled_from(["static", "sparse", "dense", "mixed"]),
    compacted=st.booleans(),
    threads=st.integers(1, 2),
)
def test_random_graphs(graph, batch, seed, way, kernels, compacted, threads):
    graph = to_dtype(graph, torch.float32)
    x = drawn_input(graph.shapes["x"], batch, seed)
    wide = to_dtype(graph, torch.float64)
    expected, scales = run(wide, [x.double()]), magnitudes(wide, [x.double()])
    made = compact(graph) if compacted else graph
    layers = list(made.layers())
    if kernels == "mixed":
        chosen = {node.name: native.KERNELS[k % 2] for k, node in enumerate(layers)}
    else:
        chosen = {} if kernels == "static" else {node.name: kernels for node in layers}
    choice = Choice(native=way != "torch", kernels=chosen)
    runner = Runner(made, cut(made, native.takes), choice, "" if way == "torch" else way)
    found = runner.run([x], threads)
    for got, wanted, scale in zip(found, expected, scales, strict=True):
        assert got.shape == wanted.shape
        error = (got.double() - wanted).norm()
        assert error <= TOLERANCE * scale.norm(), f"off by {error / scale.norm()} of the terms"
