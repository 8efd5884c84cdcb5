"""Sums, means, norms and softmax."""

from __future__ import annotations

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.writer import Writer


def _reduce(op: str) -> Emit:
    def emit(w: Writer, a: Arguments) -> str:
        x, rank = w.value(a["self"], w.result().dtype), w.rank(a["self"])
        dims = a.get("dim")
        dims = list(range(rank)) if dims in (None, []) else [dims] if isinstance(dims, int) else dims
        axes = w.ints(*(dim % rank for dim in dims))
        return w.emit(op, x, axes, keepdims=int(a.get("keepdim", False)))

    return emit


def _softmax(op: str) -> Emit:
    def emit(w: Writer, a: Arguments) -> str:
        x = w.value(a["self"], w.result().dtype)
        return w.emit(op, x, axis=a["dim"] % w.rank(a["self"]))

    return emit


def _layer_norm(w: Writer, a: Arguments) -> str:
    sizes = a["normalized_shape"]
    one = w.kind(a["input"]).new_ones(sizes, device="cpu")
    weight = w.constant(one) if a["weight"] is None else w.value(a["weight"])
    bias = [] if a["bias"] is None else [w.value(a["bias"])]
    axis = w.rank(a["input"]) - len(sizes)
    return w.emit(
        "LayerNormalization", w.value(a["input"]), weight, *bias, axis=axis, epsilon=float(a["eps"])
    )


def _group_norm(w: Writer, a: Arguments) -> str:
    """Write GroupNorm by InstanceNormalization over groups, for ONNX's own came late."""
    kind, groups = w.kind(a["input"]), a["num_groups"]
    x = w.emit("Reshape", w.value(a["input"]), w.ints(0, groups, -1))
    scale, shift = (w.constant(kind.new_full((groups,), number, device="cpu")) for number in (1, 0))
    y = w.emit("InstanceNormalization", x, scale, shift, epsilon=float(a["eps"]))
    y = w.emit("Reshape", y, w.ints(0, *kind.shape[1:]))
    for op, name in (("Mul", "weight"), ("Add", "bias")):
        if a[name] is not None:
            spread = [kind.shape[1], *(1,) * (kind.dim() - 2)]
            y = w.emit(op, y, w.emit("Reshape", w.value(a[name]), w.ints(*spread)))
    return y


def _arg(op: str) -> Emit:
    def emit(w: Writer, a: Arguments) -> str:
        if a["dim"] is None:
            raise ValueError("give a dimension")
        dim = a["dim"] % w.rank(a["self"])
        return w.emit(op, w.value(a["self"]), axis=dim, keepdims=int(a["keepdim"]))

    return emit


def _cumsum(w: Writer, a: Arguments) -> str:
    x = w.value(a["self"], w.result().dtype)
    return w.emit("CumSum", x, w.value(a["dim"] % w.rank(a["self"])))


OPERATORS: dict[str, Emit] = {
    "aten.mean.dim": _reduce("ReduceMean"),
    "aten.sum.dim_IntList": _reduce("ReduceSum"),
    "aten.amax.default": _reduce("ReduceMax"),
    "aten.amin.default": _reduce("ReduceMin"),
    "aten.argmax.default": _arg("ArgMax"),
    "aten.argmin.default": _arg("ArgMin"),
    "aten.cumsum.default": _cumsum,
    "aten.softmax.int": _softmax("Softmax"),
    "aten._softmax.default": _softmax("Softmax"),
    "aten.log_softmax.int": _softmax("LogSoftmax"),
    "aten._log_softmax.default": _softmax("LogSoftmax"),
    "aten.layer_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm,
}
