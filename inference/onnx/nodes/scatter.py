"""Operators that write a part into a value."""

from __future__ import annotations

import torch

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.nodes.arithmetic import where
from inference.onnx.nodes.selection import LAST
from inference.onnx.writer import Writer


def _select_scatter(w: Writer, a: Arguments) -> str:
    """Put a slice into one place along a dimension."""
    kind = w.kind(a["self"])
    dim = a["dim"] % kind.dim()
    if dim == 0:
        raise ValueError("writing to one example of the batch is not known")
    place = torch.zeros(kind.shape[dim], dtype=torch.bool)
    place[a["index"]] = True
    mask = w.constant(place.view(-1, *(1,) * (kind.dim() - dim - 1)))
    part = w.unsqueezed(w.value(a["src"], kind.dtype), dim)
    return where(w, mask, part, w.value(a["self"]))


def _slice_scatter(w: Writer, a: Arguments) -> str:
    """Put a run of slices into a value."""
    kind = w.kind(a["self"])
    dim, start, end = a["dim"] % kind.dim(), a["start"] or 0, a["end"]
    part = w.value(a["src"], kind.dtype)
    if start == 0 and end in (None, LAST) and a["step"] == 1:
        return part
    if dim == 0 or a["step"] != 1 or not isinstance(start, int) or not isinstance(end, int | None):
        raise ValueError("only runs along other dimensions than the batch are known")
    size = kind.shape[dim]
    first, last, _ = slice(start, end).indices(size)
    x, axis = w.value(a["self"]), w.ints(dim)
    before = w.emit("Slice", x, w.ints(0), w.ints(first), axis)
    after = w.emit("Slice", x, w.ints(last), w.ints(size), axis)
    return w.emit("Concat", before, part, after, axis=dim)


def _copy(w: Writer, a: Arguments) -> str:
    """Write one value over another, in the shape and dtype of what was there."""
    part = w.value(a["src"], w.result().dtype)
    if w.kind(a["src"]).shape == w.kind(a["self"]).shape:
        return part
    return w.emit("Expand", part, w.emit("Shape", w.value(a["self"])))


OPERATORS: dict[str, Emit] = {
    "aten.copy.default": _copy,
    "aten.select_scatter.default": _select_scatter,
    "aten.slice_scatter.default": _slice_scatter,
}
