"""`export_onnx`: a model with zero weights as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from inference.capture import capture
from inference.compact import compact
from inference.files import FilePath, write_bytes
from inference.graph import Graph
from inference.onnx.custom_op import custom_op_model
from inference.onnx.extra import need
from inference.onnx.model import OLDEST_OPSET, check_opset, make_model

if TYPE_CHECKING:
    import onnx

Kind = Callable[[Graph, Sequence[Tensor], int], "onnx.ModelProto"]

KINDS: dict[str, Kind] = {
    "compact": lambda graph, example, opset: make_model(compact(graph), example, opset),
    "sparse": lambda graph, example, opset: make_model(compact(graph), example, opset, sparse=True),
    "custom-op": custom_op_model,
    "dense": make_model,
}


def export_onnx(
    model: nn.Module | Graph,
    example: Tensor | Sequence[Tensor],
    path: FilePath,
    kind: str = "compact",
    *,
    opset: int = OLDEST_OPSET,
) -> None:
    """Write a model as an ONNX file for any batch size.

    The model is captured as by `inference.compile`; the file's inputs have the names of ``forward``'s
    arguments. It computes in float32, whatever the model's dtype, and equals the model within rounding.
    The file appears whole or not at all.

    Args:
        model: Any module that `torch.export` can trace, left as it is; or a graph captured before.
        example: Its positional arguments, tensors ``[batch, ...]`` of the shapes and dtypes it will get.
        path: The file.
        kind: "compact": dense layers without the units that are dead, for every runtime. "sparse": the
            same, stored without zeros: the smallest file; runtimes fill the zeros in again at load, so
            it is as fast as "compact". "custom-op": the sparse engine as a node of onnxruntime, for
            `inference.onnx.session`. "dense": all units, to compare with.
        opset: Version of ONNX's operators, from 20 on.

    Raises:
        ImportError: If the extra is missing: ``pip install 'dwf-optim[onnx]'``.
        TypeError: If the model or the example is something else.
        ValueError: If the kind is unknown, the opset out of range, the model cannot be captured, or an
            operator of torch has no counterpart (it is named, with its module).
    """
    proto = make_onnx(model, example, kind, opset=opset)
    write_bytes(path, proto.SerializeToString())


def make_onnx(
    model: nn.Module | Graph,
    example: Tensor | Sequence[Tensor],
    kind: str = "compact",
    *,
    opset: int = OLDEST_OPSET,
) -> onnx.ModelProto:
    """Make what `export_onnx` writes."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {sorted(KINDS)}, got {kind!r}")
    need("onnx")
    check_opset(opset)
    graph = model if isinstance(model, Graph) else capture(model, example)
    tensors = [example] if isinstance(example, Tensor) else list(example)
    if len(tensors) != len(graph.inputs):
        raise ValueError(f"the graph takes {len(graph.inputs)} inputs, the example has {len(tensors)}")
    return KINDS[kind](graph, tensors, opset)
