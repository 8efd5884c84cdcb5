"""Layers of the graph other than pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from inference.graph import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv2d,
    Elementwise,
    Linear,
    Node,
    Reshape,
    Softmax,
)
from inference.onnx.writer import Writer


def activated(w: Writer, x: str, activation: Activation | None) -> str:
    """Apply an activation to a value."""
    return x if activation is None else ACTIVATIONS[activation.kind](w, x, activation)


def _silu(w: Writer, x: str, _: Activation) -> str:
    return w.emit("Mul", x, w.emit("Sigmoid", x))


ACTIVATIONS: dict[str, Callable[[Writer, str, Activation], str]] = {
    "relu": lambda w, x, _: w.emit("Relu", x),
    "relu6": lambda w, x, _: w.emit("Clip", x, w.value(0.0), w.value(6.0)),
    "leaky_relu": lambda w, x, activation: w.emit("LeakyRelu", x, alpha=activation.slope),
    "gelu": lambda w, x, _: w.emit("Gelu", x),
    "gelu_tanh": lambda w, x, _: w.emit("Gelu", x, approximate="tanh"),
    "silu": _silu,
    "sigmoid": lambda w, x, _: w.emit("Sigmoid", x),
    "tanh": lambda w, x, _: w.emit("Tanh", x),
}


def linear(w: Writer, node: Linear) -> str:
    """Write a Linear layer; Gemm takes matrices only."""
    return activated(
        w,
        affine_map(w, w.value(node.inputs[0]), len(_shape(w, node)), node.weight, node.bias),
        node.activation,
    )


def affine_map(w: Writer, x: str, rank: int, weight: Tensor, bias: Tensor | None) -> str:
    """Multiply rows by a weight ``[out, in]`` and add a bias.

    Args:
        w: Where to.
        x: ``[..., in]``.
        rank: Dimensions of x without the batch.
        weight: The matrix.
        bias: ``[out]`` or None.
    """
    if rank == 1:
        added = [] if bias is None else [w.constant(bias)]
        return w.emit("Gemm", x, w.constant(weight), *added, transB=1)
    y = w.emit("MatMul", x, w.transposed(weight))
    return y if bias is None else w.emit("Add", y, w.constant(bias))


def conv(w: Writer, node: Conv2d) -> str:
    """Write a convolution; a map of biases is added behind it."""
    bias = node.bias
    inputs = [w.value(node.inputs[0]), w.constant(node.weight)]
    if bias is not None and bias.dim() == 1:
        inputs.append(w.constant(bias))
    rows, columns = node.padding
    y = w.emit(
        "Conv",
        *inputs,
        kernel_shape=list(node.weight.shape[2:]),
        strides=list(node.stride),
        pads=[rows, columns, rows, columns],
        dilations=list(node.dilation),
        group=node.groups,
    )
    if bias is not None and bias.dim() == 3:
        y = w.emit("Add", y, w.constant(bias))
    return activated(w, y, node.activation)


def affine(w: Writer, node: Affine) -> str:
    """Write a scale and a shift by channel."""
    spread = (-1, *(1,) * (len(_shape(w, node)) - 1))
    y = w.emit("Mul", w.value(node.inputs[0]), w.constant(node.scale.view(spread)))
    return activated(w, w.emit("Add", y, w.constant(node.shift.view(spread))), node.activation)


def _add(w: Writer, node: Add) -> str:
    return activated(w, w.emit("Add", *(w.value(name) for name in node.inputs)), node.activation)


def _reshape(w: Writer, node: Reshape) -> str:
    # Zero stands for the size that is there: the batch's.
    return w.emit("Reshape", w.value(node.inputs[0]), w.ints(0, *node.shape))


def _shape(w: Writer, node: Node) -> tuple[int, ...]:
    shape = w.graph.shapes[node.inputs[0]]
    assert shape is not None
    return shape


LAYERS: dict[type[Node], Callable[[Writer, Any], str]] = {
    Linear: linear,
    Conv2d: conv,
    Affine: affine,
    Elementwise: lambda w, node: activated(w, w.value(node.inputs[0]), node.activation),
    Reshape: _reshape,
    Add: _add,
    Concat: lambda w, node: w.emit("Concat", *(w.value(name) for name in node.inputs), axis=node.dim),
    Softmax: lambda w, node: w.emit("Softmax", w.value(node.inputs[0]), axis=node.dim),
}
