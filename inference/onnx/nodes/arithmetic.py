"""Operators that work element by element."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inference.graph import Activation
from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.nodes.layers import activated
from inference.onnx.writer import Writer


def unary(op: str, **attributes: str) -> Emit:
    """Make the rule for an operator of one value.

    Args:
        op: ONNX's operator.
        **attributes: torch's names of its attributes, by ONNX's.
    """

    def emit(w: Writer, a: Arguments) -> str:
        given = {name: a[key] for name, key in attributes.items()}
        return w.emit(op, w.value(a["self"], w.result().dtype), **given)

    return emit


def binary(op: str, *, swapped: bool = False) -> Callable[[Writer, Arguments], str]:
    """Make the rule for an operator of two values, in the dtype of the result."""

    def emit(w: Writer, a: Arguments) -> str:
        dtype = w.result().dtype
        x, y = w.value(a["self"], dtype), w.value(a["other"], dtype)
        if dtype == torch.bool:
            return w.emit(OF_TRUTH_VALUES.get(op, op), x, y)
        if a.get("alpha", 1) != 1:
            scaled, scale = (x, "self") if swapped else (y, "other")
            made = w.emit("Mul", scaled, w.value(a["alpha"], dtype))
            x, y = (made, y) if scale == "self" else (x, made)
        return w.emit(op, *((y, x) if swapped else (x, y)))

    return emit


def comparison(op: str, *, negated: bool = False) -> Emit:
    """Make the rule for a comparison."""

    def emit(w: Writer, a: Arguments) -> str:
        dtype = torch.result_type(w.kind(a["self"]), w.kind(a["other"]))
        found = w.emit(op, w.value(a["self"], dtype), w.value(a["other"], dtype))
        return w.emit("Not", found) if negated else found

    return emit


def activation(kind: str, slope: str | None = None) -> Emit:
    """Make the rule for an activation that the graph has a layer for, where the layer does not fit."""

    def emit(w: Writer, a: Arguments) -> str:
        chosen = Activation(kind, float(a[slope]) if slope else 0.0)
        return activated(w, w.value(a["self"]), chosen)

    return emit


def _gelu(w: Writer, a: Arguments) -> str:
    return w.emit("Gelu", w.value(a["self"]), approximate=a["approximate"])


def _clamp(w: Writer, a: Arguments) -> str:
    dtype = w.result().dtype
    low = a.get("min", a.get("min_val"))
    high = a.get("max", a.get("max_val"))
    limits = ["" if limit is None else w.value(limit, dtype) for limit in (low, high)]
    return w.emit("Clip", w.value(a["self"], dtype), *limits)


def _elu(w: Writer, a: Arguments) -> str:
    if a["scale"] != 1 or a["input_scale"] != 1:
        raise ValueError("only scales of 1 are known")
    return w.emit("Elu", w.value(a["self"]), alpha=float(a["alpha"]))


def _pow(w: Writer, a: Arguments) -> str:
    base, exponent = w.value(a["self"], w.result().dtype), a["exponent"]
    if isinstance(exponent, int | float) and exponent == 2:
        return w.emit("Mul", base, base)
    return w.emit("Pow", base, w.value(exponent, w.result().dtype))


def _square(w: Writer, a: Arguments) -> str:
    x = w.value(a["self"])
    return w.emit("Mul", x, x)


def _divide(w: Writer, a: Arguments) -> str:
    if a.get("rounding_mode") is not None:
        raise ValueError("only division without rounding is known")
    return binary("Div")(w, a)


def _rsqrt(w: Writer, a: Arguments) -> str:
    return w.emit("Reciprocal", w.emit("Sqrt", w.value(a["self"])))


def _softplus(w: Writer, a: Arguments) -> str:
    if a["beta"] != 1:
        raise ValueError("only beta = 1 is known")
    return w.emit("Softplus", w.value(a["self"]))


def where(w: Writer, condition: str, x: str, y: str) -> str:
    """Take elements of x where a condition holds, and of y elsewhere, in the dtype of the result."""
    if w.result().dtype != torch.bool:
        return w.emit("Where", condition, x, y)
    # onnxruntime has no Where of truth values.
    taken = w.emit("And", condition, x)
    return w.emit("Or", taken, w.emit("And", w.emit("Not", condition), y))


def _where(w: Writer, a: Arguments) -> str:
    dtype = w.result().dtype
    return where(w, w.value(a["condition"]), w.value(a["self"], dtype), w.value(a["other"], dtype))


def _masked_fill(w: Writer, a: Arguments) -> str:
    dtype = w.result().dtype
    return where(w, w.value(a["mask"]), w.value(a["value"], dtype), w.value(a["self"]))


def same(w: Writer, a: Arguments) -> str:
    """Leave out what only copies or converts, but for the conversion."""
    x = a.get("self", a.get("input"))
    return w.value(x, w.result().dtype)


def _filled(value: str | None, number: float = 0.0) -> Emit:
    """Make the rule for a tensor of one number, in the shape of another or in given sizes."""

    def emit(w: Writer, a: Arguments) -> str:
        kind = w.result()
        given = number if value is None else a[value]
        if "self" in a:
            shape = w.emit("Shape", w.value(a["self"]))
        elif not a["size"]:
            return w.value(given, kind.dtype)
        else:
            shape = w.dims(a["size"])
        return w.emit("Expand", w.value(given, kind.dtype), shape)

    return emit


def _arange(w: Writer, a: Arguments) -> str:
    dtype = w.result().dtype
    limits = (a.get("start", 0), a["end"], a.get("step", 1))
    return w.emit("Range", *(w.value(limit, dtype) for limit in limits))


UNARY = {
    **{name: name.capitalize() for name in ("abs", "ceil", "cos", "erf", "exp", "floor", "log", "neg")},
    **{name: name.capitalize() for name in ("reciprocal", "round", "sigmoid", "sign", "sin", "sqrt")},
    **{"tanh": "Tanh", "relu": "Relu", "logical_not": "Not", "bitwise_not": "Not", "isnan": "IsNaN"},
    **{"hardswish": "HardSwish", "mish": "Mish", "isinf": "IsInf"},
}
# ONNX's arithmetic takes numbers only.
OF_TRUTH_VALUES = {"Mul": "And", "Min": "And", "Add": "Or", "Max": "Or"}
BINARY = {"mul": "Mul", "maximum": "Max", "minimum": "Min", "logical_and": "And", "logical_or": "Or"}
COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
COPIES = (
    *(
        "clone.default",
        "contiguous.default",
        "alias.default",
        "detach.default",
        "lift_fresh_copy.default",
    ),
    *("dropout.default", "feature_dropout.default", "_to_copy.default", "to.dtype", "type_as.default"),
)

OPERATORS: dict[str, Emit] = {
    **{f"aten.{name}.default": unary(op) for name, op in UNARY.items()},
    **{f"aten.{name}.default": binary(op) for name, op in BINARY.items()},
    **{f"aten.{name}.Tensor": binary(op) for name, op in BINARY.items()},
    "aten.mul.Scalar": binary("Mul"),
    "aten.add.Tensor": binary("Add"),
    "aten.add.Scalar": binary("Add"),
    "aten.sub.Tensor": binary("Sub"),
    "aten.sub.Scalar": binary("Sub"),
    "aten.rsub.Scalar": binary("Sub", swapped=True),
    "aten.rsub.Tensor": binary("Sub", swapped=True),
    "aten.bitwise_and.Tensor": binary("And"),
    "aten.bitwise_or.Tensor": binary("Or"),
    "aten.__and__.Tensor": binary("And"),
    "aten.__or__.Tensor": binary("Or"),
    "aten.div.Tensor": _divide,
    "aten.div.Scalar": _divide,
    **{f"aten.{name}.Tensor": comparison(op) for name, op in COMPARISONS.items()},
    **{f"aten.{name}.Scalar": comparison(op) for name, op in COMPARISONS.items()},
    "aten.ne.Tensor": comparison("Equal", negated=True),
    "aten.ne.Scalar": comparison("Equal", negated=True),
    "aten.pow.Tensor_Scalar": _pow,
    "aten.pow.Tensor_Tensor": _pow,
    "aten.square.default": _square,
    "aten.rsqrt.default": _rsqrt,
    "aten.silu.default": activation("silu"),
    "aten.relu6.default": activation("relu6"),
    "aten.leaky_relu.default": activation("leaky_relu", "negative_slope"),
    "aten.gelu.default": _gelu,
    "aten.elu.default": _elu,
    "aten.softplus.default": _softplus,
    "aten.clamp.default": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.clamp_max.default": _clamp,
    "aten.hardtanh.default": _clamp,
    "aten.where.self": _where,
    "aten.where.ScalarOther": _where,
    "aten.where.ScalarSelf": _where,
    "aten.where.Scalar": _where,
    "aten.masked_fill.Scalar": _masked_fill,
    "aten.masked_fill.Tensor": _masked_fill,
    **{f"aten.{name}": same for name in COPIES},
    "aten.zeros_like.default": _filled(None),
    "aten.ones_like.default": _filled(None, 1),
    "aten.full_like.default": _filled("fill_value"),
    "aten.fill.Scalar": _filled("value"),
    "aten.fill.Tensor": _filled("value"),
    "aten.zeros.default": _filled(None),
    "aten.ones.default": _filled(None, 1),
    "aten.full.default": _filled("fill_value"),
    "aten.new_zeros.default": lambda w, a: _filled(None)(w, {"size": a["size"]}),
    "aten.new_ones.default": lambda w, a: _filled(None, 1)(w, {"size": a["size"]}),
    "aten.arange.default": _arange,
    "aten.arange.start": _arange,
    "aten.arange.start_step": _arange,
}
