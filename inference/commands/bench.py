"""Time a network: the engine beside dense torch and onnxruntime, in turns in one process.

bench model.dwf --batch-sizes 1,64
bench w.pt --model pkg.mod:make --shape 784
bench model.onnx                                       in onnxruntime alone
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from inference.commands.inputs import Array, sizes
from inference.commands.output import Output, Table
from inference.commands.sources import (
    ArtifactSource,
    ModelSource,
    OnnxSource,
    Source,
    add_source_arguments,
    inputs_of,
    open_source,
)
from inference.turns import medians_of_bursts

Way = Callable[[Sequence[Array]], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("--batch-sizes", type=sizes, default=(1, 64), metavar="N,N,...", help="(1,64)")
    parser.add_argument("--threads", type=int, default=1, help="for every way alike (1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each batch size (1)")


def run(options: argparse.Namespace) -> Output:
    """Time every way at every batch size.

    Args:
        options: Of `add_arguments`.

    Returns:
        One row for each way and batch size: median microseconds a call, and how many times as fast as
        the fastest dense one.

    Raises:
        ValueError: If threads are fewer than one.
    """
    if options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    source = open_source(options)
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        ways, lines = _ways(source, options)
        for batch in tqdm(options.batch_sizes, unit="batch size", leave=False):
            inputs = _repeated(inputs_of(options, source, batch), batch)
            calls = {name: partial(way, inputs) for name, way in ways.items()}
            taken = medians_of_bursts(calls, options.seconds)
            dense = min((s for name, s in taken.items() if name.endswith("dense")), default=None)
            rows += [
                {
                    "way": name,
                    "batch": batch,
                    "microseconds": 1e6 * seconds,
                    "times as fast as the best dense": None if dense is None else dense / seconds,
                }
                for name, seconds in taken.items()
            ]
    finally:
        torch.set_num_threads(before)
    title = f"{source.path or options.model}, {options.threads} thread(s), median of a call"
    data = {"path": str(source.path), "threads": options.threads, "rows": rows, "left_out": lines}
    return Output(data, [Table(title, rows)], lines)


def _ways(source: Source, options: argparse.Namespace) -> tuple[dict[str, Way], list[str]]:
    """Return what is timed, and a line on what cannot be."""
    if isinstance(source, OnnxSource):
        return {"onnxruntime": source.run}, []
    if isinstance(source, ModelSource):
        sparse = source.compile(options.batch_sizes, options.threads)
        dense: Way = source.run
    else:
        assert isinstance(source, ArtifactSource)
        sparse, dense = source.sparse, source.dense
    ways: dict[str, Way] = {"engine": lambda inputs: sparse(*inputs), "torch, dense": dense}
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        try:
            ways["onnxruntime, dense"] = _dense_onnx(source, options.threads)
        except ValueError as error:  # an operator may have no counterpart
            return ways, [f"onnxruntime is left out: {error}"]
    return ways, []


def _dense_onnx(source: ModelSource | ArtifactSource, threads: int) -> Way:
    """Return a call of the dense model in onnxruntime."""
    from inference.onnx import make_onnx, session

    model = make_onnx(source.graph(), source.tensors(), "dense")
    opened = session(model, threads=threads)
    names = [each.name for each in opened.get_inputs()]
    return lambda inputs: opened.run(None, dict(zip(names, inputs, strict=True)))


def _repeated(inputs: Sequence[Array], batch: int) -> list[Array]:
    return [np.resize(array, (batch, *array.shape[1:])) for array in inputs]
