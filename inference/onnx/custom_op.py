"""The sparse engine as nodes of an ONNX model: one for each run of layers that the engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from inference.compact import compact
from inference.graph import Graph
from inference.lowering import runs
from inference.onnx.model import make_model
from inference.onnx.nodes import write
from inference.onnx.recording import record
from inference.onnx.writer import Writer
from inference.segments import cut

if TYPE_CHECKING:
    import onnx

# As in inference/csrc/onnxruntime/library.cpp.
DOMAIN, OP, ATTRIBUTE = "dwf", "SparseProgram", "program"
VERSION = 1


def custom_op_model(graph: Graph, example: Sequence[Tensor], opset: int) -> onnx.ModelProto:
    """Make a model whose sparse layers are nodes of our own operator.

    Args:
        graph: What it computes.
        example: One tensor ``[batch, ...]`` for each input.
        opset: Of what stands between those nodes.

    Returns:
        The model, which `inference.onnx.session` runs.
    """
    return make_model(compact(graph), example, opset, body=_write_segments, domains=[(DOMAIN, VERSION)])


def _write_segments(w: Writer) -> None:
    for segment in cut(w.graph, runs):
        if not segment.native:
            for node in segment.graph.nodes:
                write(w, node)
            continue
        last = segment.graph.nodes[-1]
        w.start(last)
        made = w.emit_many(
            OP,
            [w.value(name) for name in segment.graph.inputs],
            len(segment.graph.outputs),
            domain=DOMAIN,
            **{ATTRIBUTE: record(segment)},
        )
        for value, name in zip(segment.graph.outputs, made, strict=True):
            w.set(value, name)
