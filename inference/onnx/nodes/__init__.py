"""How each layer and each operator of torch becomes nodes of ONNX: one line each in a table.

To add a layer, write a function and a line in `LAYERS`; for an operator of torch, a line in the table of
the module that it belongs to (`arithmetic`, `shapes`, `products`, ...), all of which are in `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.graph import Node, TorchOp
from inference.onnx.nodes import (
    arithmetic,
    layers,
    padding,
    products,
    recurrent,
    reductions,
    scatter,
    selection,
    shapes,
    symbols,
    windows,
)
from inference.onnx.nodes.arguments import Emit, arguments
from inference.onnx.writer import Made, Writer

LAYERS: dict[type[Node], Callable[[Writer, Any], str]] = {**layers.LAYERS, **windows.LAYERS}

OPERATORS: dict[str, Emit] = {
    **arithmetic.OPERATORS,
    **padding.OPERATORS,
    **products.OPERATORS,
    **recurrent.OPERATORS,
    **reductions.OPERATORS,
    **scatter.OPERATORS,
    **selection.OPERATORS,
    **shapes.OPERATORS,
    **symbols.OPERATORS,
}


def write(w: Writer, node: Node) -> None:
    """Append what a node of the graph becomes.

    Args:
        w: Where to.
        node: A layer or an operator of torch.

    Raises:
        ValueError: If there is no way to say it in ONNX; the operator and the module are named.
    """
    w.start(node)
    if not isinstance(node, TorchOp):
        w.finish(node, LAYERS[type(node)](w, node))
        return
    emit = OPERATORS.get(node.target)
    if emit is None:
        raise ValueError(
            f"{node.target} in {node.name!r} cannot be exported to ONNX; exporting knows "
            f"{len(OPERATORS)} operators of torch (inference.onnx.nodes has the tables). Write the "
            "module in other words, or run the model by inference.compile"
        )
    try:
        made: Made = emit(w, arguments(node))
    except ValueError as error:
        raise ValueError(
            f"{node.target} in {node.name!r} cannot be exported to ONNX: {error}"
        ) from error
    w.finish(node, made)
