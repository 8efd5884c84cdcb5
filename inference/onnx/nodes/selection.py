"""Operators that take a part of a value."""

from __future__ import annotations

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Writer

LAST = 2**63 - 1  # What torch writes for "to the end".


def _slice(w: Writer, a: Arguments) -> str:
    start, end, step = a["start"] or 0, LAST if a["end"] is None else a["end"], a["step"]
    if isinstance(start, int) and start == 0 and isinstance(end, int) and end == LAST and step == 1:
        return w.value(a["self"])
    limits = [w.dims([limit]) for limit in (start, end)]
    axis = w.ints(a["dim"] % w.rank(a["self"]))
    return w.emit("Slice", w.value(a["self"]), *limits, axis, w.ints(step))


def _select(w: Writer, a: Arguments) -> str:
    axis = a["dim"] % w.rank(a["self"])
    return w.emit("Gather", w.value(a["self"]), w.value(a["index"]), axis=axis)


def _embedding(w: Writer, a: Arguments) -> str:
    return w.emit("Gather", w.value(a["weight"]), w.value(a["indices"]), axis=0)


def _index_select(w: Writer, a: Arguments) -> str:
    axis = a["dim"] % w.rank(a["self"])
    return w.emit("Gather", w.value(a["self"]), w.value(a["index"]), axis=axis)


def _index(w: Writer, a: Arguments) -> str:
    """Write x[..., i, ...] of one list of indices."""
    given = [(axis, index) for axis, index in enumerate(a["indices"]) if index is not None]
    if (
        len(given) != 1
        or w.kind(given[0][1]).dtype.is_floating_point
        or w.kind(given[0][1]).dtype.itemsize < 4
    ):
        raise ValueError("only one tensor of integer indices is known")
    axis, index = given[0]
    return w.emit("Gather", w.value(a["self"]), w.value(index), axis=axis)


def _gather(w: Writer, a: Arguments) -> str:
    axis = a["dim"] % w.rank(a["self"])
    return w.emit("GatherElements", w.value(a["self"]), w.value(a["index"]), axis=axis)


def _triangle(upper: int) -> Emit:
    def emit(w: Writer, a: Arguments) -> str:
        return w.emit("Trilu", w.value(a["self"]), w.value(a["diagonal"]), upper=upper)

    return emit


OPERATORS: dict[str, Emit] = {
    "aten.slice.Tensor": _slice,
    "aten.select.int": _select,
    "aten.embedding.default": _embedding,
    "aten.index_select.default": _index_select,
    "aten.index.Tensor": _index,
    "aten.gather.default": _gather,
    "aten.tril.default": _triangle(0),
    "aten.triu.default": _triangle(1),
}
