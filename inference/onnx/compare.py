"""What each way to run a model costs: bytes, time and error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference.capture import capture
from inference.compact import compact
from inference.engine import SparseModel
from inference.exact import in_float64
from inference.graph import Graph
from inference.onnx.export import make_onnx
from inference.onnx.extra import need
from inference.onnx.model import OLDEST_OPSET
from inference.onnx.session import session
from inference.plan import static_plan
from inference.turns import medians_of_bursts

ENGINE = "engine"
ONNX_KINDS = ("dense", "compact", "sparse", "custom-op")

Array = np.ndarray[Any, Any]
Call = Callable[[Sequence[Array]], list[Array]]


@dataclass(frozen=True)
class Way:
    """One way to run a model, and what it costs.

    Attributes:
        name: "dense", "compact", "sparse" or "custom-op", run by onnxruntime, or "engine", in Python.
        bytes: Of the ONNX file; None for the engine.
        microseconds: Of a call, by batch size: the median over turns, from NumPy to NumPy.
        error: The largest difference from the model in float64, as a share of the largest output.
    """

    name: str
    bytes: int | None
    microseconds: Mapping[int, float]
    error: float


def compare(
    model: nn.Module | Graph,
    example: Tensor | Sequence[Tensor],
    *,
    batch_sizes: Sequence[int] = (1, 64),
    ways: Sequence[str] = (*ONNX_KINDS, ENGINE),
    threads: int = 1,
    seconds: float = 0.5,
    opset: int = OLDEST_OPSET,
) -> list[Way]:
    """Export a model in every way, and measure each on this machine.

    All ways take turns in one process, so that other load hits all alike; caches are warm.

    Args:
        model: As for `inference.export_onnx`.
        example: Its positional arguments, tensors ``[batch, ...]``; repeated to make the batches.
        batch_sizes: Which to measure.
        ways: Which to take: kinds of `inference.export_onnx`, and "engine" for `inference.compile`.
        threads: How many work on one call.
        seconds: How long to measure, for each batch size.
        opset: Of the files.

    Returns:
        One row for each way, in their order.

    Raises:
        ImportError: If the extra is missing.
        FileNotFoundError: If the package was installed without a compiler.
        ValueError: If a way is unknown, or for what `inference.export_onnx` refuses.
    """
    if unknown := sorted(set(ways) - {*ONNX_KINDS, ENGINE}):
        raise ValueError(f"unknown ways {unknown}; use some of {(*ONNX_KINDS, ENGINE)}")
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch sizes must be 1 and more, got {tuple(batch_sizes)}")
    need("onnxruntime")
    tensors = [example] if isinstance(example, Tensor) else list(example)
    graph = model if isinstance(model, Graph) else capture(model, tensors)
    calls: dict[str, Call] = {}
    sizes: dict[str, int | None] = {}
    for name in ways:
        if name == ENGINE:
            compiled = SparseModel(compact(graph), static_plan(batch_sizes), threads=threads)
            calls[name], sizes[name] = _engine_call(compiled), None
        else:
            content = make_onnx(graph, tensors, name, opset=opset).SerializeToString()
            calls[name], sizes[name] = _onnx_call(content, threads), len(content)
    times: dict[str, dict[int, float]] = {name: {} for name in ways}
    errors = dict.fromkeys(ways, 0.0)
    truth = in_float64(model)
    for size in batch_sizes:
        inputs = [_repeated(tensor, size) for tensor in tensors]
        expected = truth(inputs)
        arrays = [tensor.numpy() for tensor in inputs]
        for name, call in calls.items():
            found = zip(call(arrays), expected, strict=True)
            errors[name] = max(errors[name], *(_error(array, right) for array, right in found))
        bound = {name: partial(call, arrays) for name, call in calls.items()}
        for name, taken in medians_of_bursts(bound, seconds).items():
            times[name][size] = 1e6 * taken
    return [Way(name, sizes[name], times[name], errors[name]) for name in ways]


def _onnx_call(content: bytes, threads: int) -> Call:
    opened = session(content, threads=threads)
    names = [each.name for each in opened.get_inputs()]
    outputs = [each.name for each in opened.get_outputs()]
    return lambda arrays: list(opened.run(outputs, dict(zip(names, arrays, strict=True))))


def _engine_call(compiled: SparseModel) -> Call:
    def call(arrays: Sequence[Array]) -> list[Array]:
        made = compiled(*arrays)
        return list(made) if isinstance(made, tuple) else [made]

    return call


def _repeated(tensor: Tensor, size: int) -> Tensor:
    times = -(-size // tensor.shape[0])
    repeated = torch.cat([tensor.detach().cpu()] * times)[:size].contiguous()
    return repeated.float() if repeated.is_floating_point() else repeated


def _error(found: Array, expected: Tensor) -> float:
    if not found.size:
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected.numpy()).max()
    return float(difference / max(np.abs(expected.numpy()).max(), np.finfo(np.float64).tiny))
