"""Operators that move elements without changing them."""

from __future__ import annotations

from typing import Any

from inference.graph import Ref
from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Writer


def reshape(w: Writer, a: Arguments) -> str:
    """Write a change of shape; one size that is not known yet is left to be counted."""
    sizes = list(a["size"] if "size" in a else a["shape"])
    unknown = [k for k, size in enumerate(sizes) if not isinstance(size, int)]
    if len(unknown) == 1 and -1 not in sizes and 0 not in sizes:
        sizes[unknown[0]] = -1
    return w.emit("Reshape", w.value(a["self"]), w.dims(sizes), allowzero=1 if 0 in sizes else None)


def _flatten(w: Writer, a: Arguments) -> str:
    rank = w.rank(a["self"])
    first, last = a["start_dim"] % rank, a["end_dim"] % rank
    shape = w.kind(a["self"]).shape
    # What is not the batch is known; at most the batch and what is flattened are left to be found.
    if first == 0:
        return w.emit("Reshape", w.value(a["self"]), w.ints(-1, *shape[last + 1 :]))
    before = w.emit("Shape", w.value(a["self"]), start=0, end=first)
    after = w.emit("Shape", w.value(a["self"]), start=last + 1)
    return w.emit("Reshape", w.value(a["self"]), w.emit("Concat", before, w.ints(-1), after, axis=0))


def _unflatten(w: Writer, a: Arguments) -> str:
    dim = a["dim"] % w.rank(a["self"])
    before = w.emit("Shape", w.value(a["self"]), start=0, end=dim)
    after = w.emit("Shape", w.value(a["self"]), start=dim + 1)
    sizes = w.dims(a["sizes"])
    return w.emit("Reshape", w.value(a["self"]), w.emit("Concat", before, sizes, after, axis=0))


def _permute(w: Writer, a: Arguments) -> str:
    rank = w.rank(a["self"])
    return w.emit("Transpose", w.value(a["self"]), perm=[dim % rank for dim in a["dims"]])


def transpose(w: Writer, x: str, rank: int, first: int, second: int) -> str:
    """Swap two dimensions of a value."""
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return w.emit("Transpose", x, perm=order)


def _transpose(w: Writer, a: Arguments) -> str:
    return transpose(w, w.value(a["self"]), w.rank(a["self"]), a["dim0"], a["dim1"])


def _t(w: Writer, a: Arguments) -> str:
    return w.value(a["self"]) if w.rank(a["self"]) < 2 else transpose(w, w.value(a["self"]), 2, 0, 1)


def _expand(w: Writer, a: Arguments) -> str:
    # What -1 leaves, ONNX's Expand leaves where there is one.
    sizes = [1 if isinstance(size, int) and size == -1 else size for size in a["size"]]
    return w.emit("Expand", w.value(a["self"]), w.dims(sizes))


def _repeat(w: Writer, a: Arguments) -> str:
    x, missing = w.value(a["self"]), len(a["repeats"]) - w.rank(a["self"])
    if missing:
        x = w.unsqueezed(x, *range(missing))
    return w.emit("Tile", x, w.dims(a["repeats"]))


def _unsqueeze(w: Writer, a: Arguments) -> str:
    return w.unsqueezed(w.value(a["self"]), a["dim"] % (w.rank(a["self"]) + 1))


def _squeeze(w: Writer, a: Arguments) -> str:
    kind = w.kind(a["self"])
    dims = a.get("dim", list(range(1, kind.dim())))
    dims = [dim % kind.dim() for dim in ([dims] if isinstance(dims, int) else dims)]
    ones = [dim for dim in dims if kind.shape[dim] == 1]
    return w.emit("Squeeze", w.value(a["self"]), w.ints(*ones)) if ones else w.value(a["self"])


def _concat(w: Writer, a: Arguments) -> str:
    dtype = w.result().dtype
    # torch leaves out the empty ones of one dimension.
    tensors = [t for t in a["tensors"] if tuple(w.kind(t).shape) != (0,)]
    values = [w.value(tensor, dtype) for tensor in tensors]
    return w.emit("Concat", *values, axis=a["dim"] % w.result().dim())


def _stack(w: Writer, a: Arguments) -> str:
    dim = a["dim"] % w.result().dim()
    parts = [w.unsqueezed(w.value(tensor, w.result().dtype), dim) for tensor in a["tensors"]]
    return w.emit("Concat", *parts, axis=dim)


def _split(w: Writer, a: Arguments) -> list[str]:
    sizes = [part.shape[a["dim"]] for part in w.result()]
    return _parts(w, a["self"], a["dim"], sizes)


def _unbind(w: Writer, a: Arguments) -> list[str]:
    parts = _parts(w, a["self"], a["dim"], [1] * len(w.result()))
    return [w.emit("Squeeze", part, w.ints(a["dim"] % w.rank(a["self"]))) for part in parts]


def _parts(w: Writer, x: Ref | Any, dim: int, sizes: list[int]) -> list[str]:
    inputs = [w.value(x), w.ints(*sizes)]
    return w.emit_many("Split", inputs, len(sizes), axis=dim % w.rank(x))


OPERATORS: dict[str, Emit] = {
    "aten.view.default": reshape,
    "aten._unsafe_view.default": reshape,
    "aten.reshape.default": reshape,
    "aten.flatten.using_ints": _flatten,
    "aten.unflatten.int": _unflatten,
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    "aten.t.default": _t,
    "aten.expand.default": _expand,
    "aten.repeat.default": _repeat,
    "aten.unsqueeze.default": _unsqueeze,
    "aten.squeeze.default": _squeeze,
    "aten.squeeze.dim": _squeeze,
    "aten.squeeze.dims": _squeeze,
    "aten.cat.default": _concat,
    "aten.stack.default": _stack,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.chunk.default": _split,
    "aten.unbind.int": _unbind,
}
