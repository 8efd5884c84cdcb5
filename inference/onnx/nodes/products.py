"""Products: matrices, attention, convolutions that the graph has no layer for."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from inference.onnx.nodes.arguments import Arguments, Emit
from inference.onnx.nodes.layers import affine_map
from inference.onnx.nodes.shapes import transpose
from inference.onnx.writer import Writer


def _matmul(w: Writer, a: Arguments) -> str:
    return w.emit("MatMul", w.value(a["self"]), w.value(a.get("other", a.get("mat2"))))


def _linear(w: Writer, a: Arguments) -> str:
    x, rank = w.value(a["input"]), w.rank(a["input"])
    if isinstance(a["weight"], Tensor) and isinstance(a["bias"], Tensor | None):
        return affine_map(w, x, rank - 1, a["weight"], a["bias"])
    y = w.emit("MatMul", x, transpose(w, w.value(a["weight"]), 2, 0, 1))
    return y if a["bias"] is None else w.emit("Add", y, w.value(a["bias"]))


def _addmm(w: Writer, a: Arguments) -> str:
    if a["beta"] != 1 or a["alpha"] != 1:
        raise ValueError("only factors of 1 are known")
    product = w.emit("MatMul", w.value(a["mat1"]), w.value(a["mat2"]))
    return w.emit("Add", product, w.value(a["self"]))


def _attention(w: Writer, a: Arguments) -> str:
    """Write softmax(q k' / sqrt(d) + mask) v."""
    query = w.kind(a["query"])
    if a["enable_gqa"] or a["dropout_p"] or (a["is_causal"] and a["attn_mask"] is not None):
        raise ValueError("dropout, groups of queries, and a mask beside is_causal are not known")
    scale = 1 / math.sqrt(query.shape[-1]) if a["scale"] is None else a["scale"]
    keys = transpose(w, w.value(a["key"]), query.dim(), -2, -1)
    scores = w.emit("MatMul", w.emit("Mul", w.value(a["query"]), w.value(float(scale))), keys)
    mask = a["attn_mask"]
    if a["is_causal"]:
        rows, columns = query.shape[-2], w.kind(a["key"]).shape[-2]
        mask = torch.ones(rows, columns, dtype=torch.bool).tril()
    if mask is not None:
        scores = w.emit("Add", scores, _as_float(w, mask))
    return w.emit("MatMul", w.emit("Softmax", scores, axis=-1), w.value(a["value"]))


def _as_float(w: Writer, mask: Any) -> str:
    """Return what is added to scores: -inf where attention may not go."""
    if w.kind(mask).dtype != torch.bool:
        return w.value(mask)
    if isinstance(mask, Tensor):
        return w.constant(torch.zeros(mask.shape).masked_fill(~mask, -math.inf))
    return w.emit("Where", w.value(mask), w.value(0.0), w.value(-math.inf))


def _sides(a: Arguments, kernel: list[int], dims: int) -> list[int]:
    """Return the zeros before and behind each dimension of images."""
    padding = a["padding"]
    if padding in ("valid", b"valid"):
        return [0] * (2 * dims)
    if padding == "same":
        dilation = _spread(a["dilation"], dims)
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]
    each = _spread(padding, dims)
    return [*each, *each]


def _spread(numbers: Any, dims: int) -> list[int]:
    """Return one number a dimension."""
    each = [numbers] if isinstance(numbers, int) else list(numbers)
    return each * dims if len(each) == 1 else each


def _conv(w: Writer, a: Arguments) -> str:
    return _convolve(w, a, transposed=a.get("transposed", False))


def _conv_transpose(w: Writer, a: Arguments) -> str:
    return _convolve(w, a, transposed=True)


def _convolve(w: Writer, a: Arguments, *, transposed: bool) -> str:
    kernel = list(w.kind(a["weight"]).shape[2:])
    dims = len(kernel)
    bias = [] if a["bias"] is None else [w.value(a["bias"])]
    more: dict[str, Any] = {"output_padding": _spread(a["output_padding"], dims)} if transposed else {}
    return w.emit(
        "ConvTranspose" if transposed else "Conv",
        w.value(a["input"]),
        w.value(a["weight"]),
        *bias,
        kernel_shape=kernel,
        strides=_spread(a["stride"], dims),
        pads=_sides(a, kernel, dims),
        dilations=_spread(a["dilation"], dims),
        group=a["groups"],
        **more,
    )


OPERATORS: dict[str, Emit] = {
    "aten.matmul.default": _matmul,
    "aten.mm.default": _matmul,
    "aten.bmm.default": _matmul,
    "aten.addmm.default": _addmm,
    "aten.linear.default": _linear,
    "aten.scaled_dot_product_attention.default": _attention,
    "aten.conv1d.default": _conv,
    "aten.conv1d.padding": _conv,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.convolution.default": _conv,
    "aten.conv_transpose1d.default": _conv_transpose,
    "aten.conv_transpose2d.input": _conv_transpose,
}
