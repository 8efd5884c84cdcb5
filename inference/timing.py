"""How long a compiled model and each of its layers take, next to dense ones."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inference.capture import evaluating
from inference.graph import Conv2d, Graph, Linear
from inference.interpret import compute, run
from inference.measure import median_seconds, repeat
from inference.report import LayerReport, Report
from inference.rounding import with_weight_dtype
from inference.runner import Runner
from inference.turns import medians_of_bursts

SECONDS = 0.2

Call = Callable[[], object]


def with_times(
    report: Report,
    graph: Graph,
    runners: Mapping[int, Runner],
    call: Callable[..., object],
    threads: int,
    example: Sequence[Tensor] | None,
    dense: nn.Module | None,
) -> Report:
    """Measure a model and its layers here and now, for about a second a batch size.

    Args:
        report: Of the graph.
        graph: The graph.
        runners: By batch size.
        call: The whole, as users call it: with a NumPy array for each input.
        threads: As at run time, of dense runtimes too.
        example: One tensor for each input, repeated to make the batches; normal numbers if None.
        dense: What to compare the whole with; the graph itself, all weights multiplied, if None.

    Returns:
        The report with times. They differ from run to run.

    Raises:
        ValueError: If no example is given and an input is not of floating-point numbers.
    """
    graph = with_weight_dtype(graph, torch.float32)
    module = _Dense(graph) if dense is None else dense
    own: dict[str, dict[int, float]] = {}
    dense_own: dict[str, dict[int, float]] = {}
    whole: dict[int, dict[str, float]] = {}
    # The engine computes in float32, the dense model in what it is in.
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with evaluating(module):
            for size, runner in runners.items():
                inputs = _inputs(graph, size, example)
                _time_layers(graph, runner, size, inputs, threads, own, dense_own)
                exported = graph if dense is None else dense
                whole[size] = _time_whole(call, module, exported, inputs, dtype, threads)
    finally:
        torch.set_num_threads(torch_threads)

    def timed(layer: LayerReport) -> LayerReport:
        return dataclasses.replace(
            layer,
            microseconds=own.get(layer.name, {}),
            dense_microseconds=dense_own.get(layer.name, {}),
        )

    return dataclasses.replace(report, layers=tuple(map(timed, report.layers)), whole=whole)


def _inputs(graph: Graph, size: int, example: Sequence[Tensor] | None) -> list[Tensor]:
    if example is not None:
        given = [x.detach().cpu() for x in example]
        return [repeat(x.float() if x.is_floating_point() else x, size) for x in given]
    shapes = [graph.shapes[name] for name in graph.inputs]
    if None in shapes:
        raise ValueError("the inputs are not all of floating-point numbers; pass an example of them")
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, *(shape or ()), generator=generator) for shape in shapes]


def _time_layers(
    graph: Graph,
    runner: Runner,
    size: int,
    inputs: Sequence[Tensor],
    threads: int,
    own: dict[str, dict[int, float]],
    dense_own: dict[str, dict[int, float]],
) -> None:
    """Add each layer's times, those of layers with weights in torch as well."""
    values: dict[str, Any] = dict(zip(graph.inputs, inputs, strict=True))
    for node, held in zip(graph.nodes, runner.graph.nodes, strict=True):
        values[node.output] = compute(node, values)
        here = own.setdefault(node.name, {})
        here[size] = 1e6 * median_seconds(runner.alone(held, values, threads))
        if isinstance(node, Linear | Conv2d):
            seconds = median_seconds(lambda node=node: compute(node, values))  # type: ignore[misc]
            dense_own.setdefault(node.name, {})[size] = 1e6 * seconds


def _time_whole(
    engine: Callable[..., object],
    module: nn.Module,
    dense: nn.Module | Graph,
    inputs: list[Tensor],
    dtype: torch.dtype,
    threads: int,
) -> dict[str, float]:
    """Return microseconds of a call, the ways taking turns; the module's inputs are of a dtype."""
    arrays = [x.numpy() for x in inputs]
    taken = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    calls: dict[str, Call] = {
        "engine": lambda: engine(*arrays),
        "torch": lambda: module(*taken),
    }
    if (session := _onnxruntime(dense, taken, arrays, threads)) is not None:
        calls["onnxruntime"] = session
    return {name: 1e6 * seconds for name, seconds in medians_of_bursts(calls, SECONDS).items()}


class _Dense(nn.Module):
    """A graph as a module."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return run(self.graph, inputs)


def _onnxruntime(
    dense: nn.Module | Graph, inputs: list[Tensor], arrays: list[Any], threads: int
) -> Call | None:
    """Make a call of onnxruntime; None if it is not installed or cannot.

    Args:
        dense: What it computes.
        inputs: What that takes.
        arrays: The same in float32, which all exported models take.
        threads: How many work on one call.
    """
    try:
        from inference.onnx import make_onnx, session

        opened = session(make_onnx(dense, inputs, "dense"), threads=threads)
    except (ImportError, FileNotFoundError, ValueError) as error:  # an operator may have no counterpart
        logging.getLogger("inference").info("onnxruntime is not compared: %s", error)
        return None
    names = [each.name for each in opened.get_inputs()]
    feed = dict(zip(names, arrays, strict=True))
    return lambda: opened.run(None, feed)
