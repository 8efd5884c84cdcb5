"""An operator's arguments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.graph import TorchOp
from inference.onnx.writer import Made, Writer
from inference.operators import resolve

Arguments = dict[str, Any]
Emit = Callable[[Writer, Arguments], Made]


def arguments(node: TorchOp) -> Arguments:
    """Return the arguments of an operator by their names in torch, with defaults for what is not given.

    Functions of Python, on sizes, have none: theirs are "0", "1" and so on.
    """
    function = resolve(node.target)
    schema = getattr(function, "_schema", None)
    if schema is None:
        return {str(k): argument for k, argument in enumerate(node.args)}
    found = {each.name: each.default_value for each in schema.arguments if each.has_default_value()}
    found |= {each.name: given for each, given in zip(schema.arguments, node.args, strict=False)}
    return found | dict(node.kwargs)
