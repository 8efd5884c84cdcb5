"""Operators that take a part of a value."""

from __future__ import annotations

import torch

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
    """Write x[..., i, ...], or x[i, j, ...] for the first dimensions, of tensors of indices."""
    given = [(axis, index) for axis, index in enumerate(a["indices"]) if index is not None]
    if any(w.kind(index).dtype not in (torch.int32, torch.int64) for _, index in given):
        raise ValueError("only integer indices are known")
    if len(given) == 1:
        axis, index = given[0]
        return w.emit("Gather", w.value(a["self"]), w.value(index), axis=axis)
    if [axis for axis, _ in given] != list(range(len(given))):
        raise ValueError("several indices are known for the first dimensions only")
    places = [w.value(index, torch.int64) for _, index in given]
    total = places[0]
    for place in places[1:]:
        total = w.emit("Add", total, place)
    shape, rank = w.emit("Shape", total), max(w.rank(index) for _, index in given)
    columns = [w.unsqueezed(w.emit("Expand", place, shape), rank) for place in places]
    return w.emit("GatherND", w.value(a["self"]), w.emit("Concat", *columns, axis=-1))


def _gather(w: Writer, a: Arguments) -> str:
    axis = a["dim"] % w.rank(a["self"])
    return w.emit("GatherElements", w.value(a["self"]), w.value(a["index"]), axis=axis)


def _diff(w: Writer, a: Arguments) -> str:
    """Write the differences of neighbours."""
    if a["n"] != 1 or a["append"] is not None or w.kind(a["self"]).dtype == torch.bool:
        raise ValueError("only first differences of numbers, with nothing behind them, are known")
    x, dim = w.value(a["self"]), a["dim"] % w.rank(a["self"])
    if a["prepend"] is not None:
        x = w.emit("Concat", w.value(a["prepend"]), x, axis=dim)
    axis = w.ints(dim)
    later = w.emit("Slice", x, w.ints(1), w.ints(LAST), axis)
    return w.emit("Sub", later, w.emit("Slice", x, w.ints(0), w.ints(-1), axis))


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
    "aten.diff.default": _diff,
    "aten.tril.default": _triangle(0),
    "aten.triu.default": _triangle(1),
}
