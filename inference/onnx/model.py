"""From a graph to a model of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inference.graph import Graph
from inference.onnx.extra import need
from inference.onnx.kinds import find_kinds
from inference.onnx.nodes import write
from inference.onnx.sparse import is_smaller, to_sparse
from inference.onnx.writer import ELEMENT_TYPES, Writer

if TYPE_CHECKING:
    import onnx

# The first with Gelu; onnxruntime has it since 1.17.
OLDEST_OPSET = 20
# Protobuf's limit for one message.
MOST_BYTES = 2**31 - 1

Body = Callable[[Writer], None]


def write_nodes(w: Writer) -> None:
    """Write every node of a graph by itself."""
    for node in w.graph.nodes:
        write(w, node)


def make_model(
    graph: Graph,
    example: Sequence[Tensor],
    opset: int,
    *,
    body: Body = write_nodes,
    sparse: bool = False,
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    """Make a model of a graph, and check it.

    Args:
        graph: What it computes.
        example: One tensor ``[batch, ...]`` for each input; shapes and dtypes matter.
        opset: Version of ONNX's operators.
        body: Writes the nodes.
        sparse: Whether to store constants without their zeros where that takes less space.
        domains: Other domains of operators and their versions.

    Returns:
        The model, whose batch is open.

    Raises:
        ValueError: If the opset is out of range, an operator has no counterpart, or the model is too
            large.
    """
    api: Any = need("onnx")
    check_opset(opset)
    w = Writer(graph, find_kinds(graph, example), opset)
    body(w)
    outputs = w.outputs()
    nodes, constants = w.needed(outputs)
    size = sum(node.ByteSize() for node in nodes) + sum(data.nbytes for data in constants.values())
    if size > MOST_BYTES:
        raise ValueError(
            f"the model takes {size:,} bytes, more than the {MOST_BYTES:,} of one ONNX file"
        )
    proto = api.helper.make_graph(
        nodes,
        "dwf_optim",
        [_value_info(w, name, name) for name in graph.inputs],
        [_value_info(w, name, value) for name, value in zip(outputs, graph.outputs, strict=True)],
    )
    proto.initializer.extend(api.numpy_helper.from_array(data, name) for name, data in constants.items())
    opsets = [
        api.helper.make_opsetid("", opset),
        *(api.helper.make_opsetid(*each) for each in domains),
    ]
    model: onnx.ModelProto = api.helper.make_model(
        proto,
        opset_imports=opsets,
        ir_version=api.helper.find_min_ir_version_for(opsets[:1]),
        producer_name="dwf-optim",
        producer_version=_version(),
    )
    # A sparse initializer is no tensor to shape inference, though every runtime takes it for one.
    try:
        api.checker.check_model(model, full_check=True)
    except (api.checker.ValidationError, api.shape_inference.InferenceError) as error:
        raise ValueError(
            f"an operator has no counterpart in ONNX for its dtypes: {str(error).splitlines()[0]}"
        ) from error
    if sparse:
        _leave_out_zeros(model, constants)
        api.checker.check_model(model)
    return model


def _leave_out_zeros(model: onnx.ModelProto, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
    smaller = {name for name, data in constants.items() if is_smaller(data)}
    dense = [each for each in model.graph.initializer if each.name not in smaller]
    del model.graph.initializer[:]
    model.graph.initializer.extend(dense)
    model.graph.sparse_initializer.extend(
        to_sparse(name, constants[name]) for name in constants if name in smaller
    )


def check_opset(opset: int) -> None:
    """Raise ValueError unless models can be written with this version of the operators."""
    newest = need("onnx").defs.onnx_opset_version()
    if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest:
        raise ValueError(
            f"opset must be an integer from {OLDEST_OPSET} (the first with Gelu) to {newest} (the "
            f"newest that the installed onnx knows), got {opset!r}"
        )


def _value_info(w: Writer, name: str, value: str) -> onnx.ValueInfoProto:
    kind, shape = w.kinds[value], w.graph.shapes[value]
    if not isinstance(kind, Tensor):
        kind = torch.tensor(kind)
    dims: list[Any] = [None] * kind.dim()
    if shape is not None or value in w.graph.inputs:
        dims = ["batch", *kind.shape[1:]]
    info: onnx.ValueInfoProto = need("onnx").helper.make_tensor_value_info(
        name, ELEMENT_TYPES[kind.dtype], dims
    )
    return info


def _version() -> str:
    try:
        return version("dwf-optim")
    except PackageNotFoundError:  # run from a clone
        return ""
