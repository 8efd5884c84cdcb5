"""Arithmetic on the batch's size."""

from __future__ import annotations

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Made, Writer


def _size(w: Writer, a: Arguments) -> str:
    dim = a["dim"] % w.rank(a["self"])
    shape = w.emit("Shape", w.value(a["self"]), start=dim, end=dim + 1)
    return w.emit("Squeeze", shape, w.ints(0))


def _arithmetic(op: str) -> Emit:
    return lambda w, a: w.emit(op, w.value(a["0"]), w.value(a["1"]))


def _item(w: Writer, a: Arguments) -> Made:
    """Take one tensor out of a list of them."""
    found = w.made(a["0"].name)
    assert isinstance(found, list)
    return found[a["1"]]


OPERATORS: dict[str, Emit] = {
    "aten.sym_size.int": _size,
    "operator.add": _arithmetic("Add"),
    "operator.sub": _arithmetic("Sub"),
    "operator.mul": _arithmetic("Mul"),
    # Sizes are not negative, where dividing them would round to zero instead of down.
    "operator.floordiv": _arithmetic("Div"),
    "operator.mod": _arithmetic("Mod"),
    "operator.getitem": _item,
}
