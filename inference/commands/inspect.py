"""Say what a network consists of: layers, zeros, kernels, and with --timing microseconds.

inspect model.dwf
inspect w.pt --model pkg.mod:make --shape 784 --timing
inspect model.onnx
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from inference.commands.inputs import sizes
from inference.commands.output import Output, Table
from inference.commands.sources import (
    ArtifactSource,
    ModelSource,
    OnnxSource,
    add_source_arguments,
    inputs_of,
    open_source,
)

# Drawn to be repeated, where no file of inputs is named.
SAMPLES = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("--batch-sizes", type=sizes, default=(1, 64), metavar="N,N,...", help="(1,64)")
    parser.add_argument("--timing", action="store_true", help="measure each layer, and the whole")


def run(options: argparse.Namespace) -> Output:
    """Describe a network.

    Args:
        options: Of `add_arguments`.

    Returns:
        One row a layer.
    """
    source = open_source(options)
    if isinstance(source, OnnxSource):
        return _of_onnx(source)
    assert isinstance(source, ModelSource | ArtifactSource)
    sparse = source.compile(options.batch_sizes) if isinstance(source, ModelSource) else source.sparse
    if options.timing:
        example = [torch.from_numpy(array) for array in inputs_of(options, source, SAMPLES)]
        report = sparse.inspect(timing=True, example=example)
    else:
        report = sparse.inspect()
    data: dict[str, Any] = {"path": str(source.path), "bytes": source.bytes, **report.to_json()}
    return Output(data, [], [str(report)])


def _of_onnx(source: OnnxSource) -> Output:
    import onnx
    from onnx import numpy_helper

    assert source.path is not None
    model = onnx.load(source.path)
    rows: list[dict[str, Any]] = []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim >= 2:
            rows.append(_row(tensor.name, array.shape, int((array != 0).sum()), "dense"))
    for sparse in model.graph.sparse_initializer:
        rows.append(_row(sparse.values.name, tuple(sparse.dims), sparse.values.dims[0], "sparse"))
    operators = sorted({f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in model.graph.node})
    data = {
        "path": str(source.path),
        "bytes": source.bytes,
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "operators": operators,
        "weights": rows,
    }
    lines = [f"{source.bytes:,} bytes; operators: {', '.join(operators)}"]
    return Output(data, [Table(str(source.path), rows)] if rows else [], lines)


def _row(name: str, shape: tuple[int, ...], nonzero: int, stored: str) -> dict[str, Any]:
    total = 1
    for size in shape:
        total *= size
    return {
        "weight": name,
        "shape": "x".join(map(str, shape)),
        "nonzero": nonzero,
        "sparsity": 1 - nonzero / total if total else 0.0,
        "stored": stored,
    }
