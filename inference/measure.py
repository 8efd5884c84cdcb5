"""Chooses kernels by measuring them on this machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from inference import native
from inference.graph import Graph, Node
from inference.machine import machine
from inference.plan import Choice, Plan, static_plan
from inference.runner import Runner
from inference.segments import Segment, cut

# A candidate runs until this many seconds have passed, and at least so often.
SECONDS = 3e-3
LEAST_ROUNDS = 5
# Whether the engine is used at all is measured for longer, both ways in turns.
WHOLE_SECONDS = 0.05
# torch takes over only if it is faster by more than what two measurements differ by.
MARGIN = 1.05


def make_plan(
    kind: str,
    graph: Graph,
    example: Sequence[Tensor],
    batch_sizes: Sequence[int],
    threads: int,
    progress: bool,
) -> Plan:
    """Choose kernels for a graph.

    Args:
        kind: "measure" or "static".
        graph: Compact.
        example: One tensor for each of its inputs.
        batch_sizes: At least one.
        threads: As at run time.
        progress: Whether to show a bar while measuring.

    Returns:
        The plan; a static one where there is nothing to measure.
    """
    segments = cut(graph, native.takes)
    if kind == "static" or not any(segment.native for segment in segments):
        return static_plan(batch_sizes)
    given = [tensor.detach().cpu() for tensor in example]
    made = [t.float() if t.is_floating_point() else t for t in given]
    return measured_plan(segments, graph, made, batch_sizes, threads, progress)


def measured_plan(
    segments: Sequence[Segment],
    graph: Graph,
    example: Sequence[Tensor],
    batch_sizes: Sequence[int],
    threads: int,
    progress: bool = False,
) -> Plan:
    """Choose, for each batch size, the fastest kernel of each layer, and whether torch is faster still.

    Args:
        segments: The graph's, as `inference.segments.cut` gives them.
        graph: The whole.
        example: One tensor for each of its inputs; repeated to make the batches.
        batch_sizes: At least one.
        threads: As at run time.
        progress: Whether to show a bar.

    Returns:
        The plan. Times differ from run to run, so kernels of almost equal speed may, too.
    """
    sizes = sorted(set(batch_sizes))
    layers = list(_layers(segments))
    chosen: dict[int, dict[str, str]] = {size: {} for size in sizes}
    for node, segment in tqdm(layers, unit="layer", disable=not progress, leave=False):
        names = native.candidates(node)
        if len(names) < 2:
            continue
        alone = _alone(node, segment.graph)
        for size in sizes:
            x = torch.rand(size * math.prod(segment.lead), *(alone.shapes[node.inputs[0]] or ()))
            times = {name: _time_program(alone, {node.name: name}, x, threads) for name in names}
            chosen[size][node.name] = min(times, key=lambda name: times[name])
    choices = {}
    for size in sizes:
        choice = Choice(kernels=chosen[size])
        inputs = [_repeat(tensor, size) for tensor in example]
        faster = _native_is_faster(segments, graph, choice, inputs, threads)
        choices[size] = choice if faster else Choice(native=False)
    return Plan("measured", choices, machine())


def _layers(segments: Sequence[Segment]) -> Iterator[tuple[Node, Segment]]:
    for segment in segments:
        if segment.native:
            yield from ((node, segment) for node in segment.graph.layers())


def _alone(node: Node, graph: Graph) -> Graph:
    """Return the graph of one layer."""
    shapes = {name: graph.shapes[name] for name in (*node.inputs, node.output)}
    return Graph(node.inputs, (node.output,), (node,), shapes)


def _repeat(tensor: Tensor, size: int) -> Tensor:
    times = -(-size // tensor.shape[0])
    return torch.cat([tensor] * times)[:size].contiguous()


def _time_program(graph: Graph, kernels: dict[str, str], x: Tensor, threads: int) -> float:
    program = native.lower(graph, kernels).program
    out = torch.empty(x.shape[0], *(graph.shapes[graph.outputs[0]] or ()))
    return _median(lambda: program.run(x, out, threads))


def _median(call: Callable[[], object]) -> float:
    call()  # the first one allocates
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < LEAST_ROUNDS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _native_is_faster(
    segments: Sequence[Segment], graph: Graph, choice: Choice, inputs: list[Tensor], threads: int
) -> bool:
    ours = Runner(graph, segments, choice)
    torchs = Runner(graph, segments, Choice(native=False))
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + WHOLE_SECONDS
    while len(times[0]) < LEAST_ROUNDS or time.perf_counter() < end:
        for runner, taken in zip((ours, torchs), times, strict=True):
            start = time.perf_counter()
            runner.run(inputs, threads)
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]) <= MARGIN * statistics.median(times[1])
