"""Runs a graph in plain torch: the reference, and the way without the extension."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from inference.graph import (
    Activation,
    AdaptiveAvgPool2d,
    Add,
    Affine,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    Elementwise,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Reshape,
    Softmax,
    TorchOp,
)
from inference.operators import decode, resolve

FLOAT_NAMES = ("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64")
AnyNode = TypeVar("AnyNode", bound=Node)


def run(graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Compute a graph's outputs.

    Args:
        graph: The graph.
        inputs: One tensor ``[batch, ...]`` for each of its inputs, of the constants' dtype; left as
            they are.

    Returns:
        One tensor for each of its outputs.

    Raises:
        ValueError: If the number of inputs or a shape is not the graph's.
    """
    if len(inputs) != len(graph.inputs):
        raise ValueError(f"the graph takes {len(graph.inputs)} inputs, got {len(inputs)}")
    values: dict[str, Any] = {}
    for name, tensor in zip(graph.inputs, inputs, strict=True):
        shape = graph.shapes[name]
        if shape is not None and tuple(tensor.shape[1:]) != shape:
            raise ValueError(
                f"input {name!r} must have shape {['batch', *shape]}, got {[*tensor.shape]}"
            )
        values[name] = tensor.detach()
    last_reader = {name: node for node in graph.nodes for name in node.inputs}
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for node in graph.nodes:
            values[node.output] = compute(node, values)
            for name in set(node.inputs):
                if last_reader[name] is node and name not in graph.outputs:
                    del values[name]
    return tuple(values[name] for name in graph.outputs)


def compute(node: Node, values: Mapping[str, Any]) -> Any:
    """Compute one node.

    Args:
        node: The node.
        values: What it reads, by name.

    Returns:
        What it makes; a tensor, unless it is a `TorchOp`.
    """
    return COMPUTE[type(node)](node, *(values[name] for name in node.inputs))


def activate(x: Tensor, activation: Activation | None) -> Tensor:
    """Apply an activation.

    Args:
        x: Of any shape.
        activation: None for none.

    Returns:
        A tensor of the same shape; not ``x`` written over.
    """
    return x if activation is None else ACTIVATE[activation.kind](x, activation)


def to_dtype(graph: Graph, dtype: torch.dtype, device: str = "cpu") -> Graph:
    """Copy a graph into another floating-point dtype.

    Args:
        graph: The graph.
        dtype: Of all floating-point constants of the copy, and of what its operators are asked to make:
            a graph computes in one dtype.
        device: Of all constants of the copy; "meta" for their shapes alone.

    Returns:
        A graph that shares no tensor with the first; constants that were one tensor stay one.
    """
    copies: dict[int, Tensor] = {}

    def convert(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            if id(argument) not in copies:
                kind = dtype if argument.is_floating_point() else argument.dtype
                copy = torch.empty(argument.shape, dtype=kind, device=device)
                copies[id(argument)] = copy.copy_(argument.detach())
            return copies[id(argument)]
        if isinstance(argument, str) and argument in FLOAT_NAMES:
            return str(dtype)
        if isinstance(argument, list | tuple):
            return type(argument)(convert(item) for item in argument)
        if isinstance(argument, Mapping):
            return {key: convert(item) for key, item in argument.items()}
        return argument

    nodes = [map_constants(node, convert) for node in graph.nodes]
    return graph.with_nodes(nodes, graph.shapes)


def map_constants(node: AnyNode, convert: Callable[[Any], Any]) -> AnyNode:
    """Copy a node with other constants.

    Args:
        node: The node.
        convert: Gets each tensor, and the arguments of a `TorchOp`.

    Returns:
        The copy.
    """
    changed = {
        field.name: convert(getattr(node, field.name))
        for field in dataclasses.fields(node)
        if field.name in ("args", "kwargs") or isinstance(getattr(node, field.name), Tensor)
    }
    return dataclasses.replace(node, **changed)


ACTIVATE: dict[str, Callable[[Tensor, Activation], Tensor]] = {
    "relu": lambda x, _: F.relu(x),
    "relu6": lambda x, _: F.relu6(x),
    "leaky_relu": lambda x, activation: F.leaky_relu(x, activation.slope),
    "gelu": lambda x, _: F.gelu(x),
    "gelu_tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "silu": lambda x, _: F.silu(x),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x),
}


def _linear(node: Linear, x: Tensor) -> Tensor:
    # Weights may be held in 16 bits.
    return activate(F.linear(x, node.weight.to(x.dtype), node.bias), node.activation)


def _conv(node: Conv2d, x: Tensor) -> Tensor:
    bias, bias_map = node.bias, None
    if bias is not None and bias.dim() == 3:
        bias, bias_map = None, bias
    options = (node.stride, node.padding, node.dilation, node.groups)
    y = F.conv2d(x, node.weight.to(x.dtype), bias, *options)
    return activate(y if bias_map is None else y + bias_map, node.activation)


def _affine(node: Affine, x: Tensor) -> Tensor:
    channels = (-1, *(1,) * (x.dim() - 2))
    return activate(node.scale.view(channels) * x + node.shift.view(channels), node.activation)


def _batch_norm(node: BatchNorm, x: Tensor) -> Tensor:
    return F.batch_norm(x, node.mean, node.var, node.weight, node.bias, eps=node.eps)


def _max_pool(node: MaxPool2d, x: Tensor) -> Tensor:
    return F.max_pool2d(x, node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)


def _avg_pool(node: AvgPool2d, x: Tensor) -> Tensor:
    return F.avg_pool2d(
        x,
        node.kernel,
        node.stride,
        node.padding,
        node.ceil_mode,
        node.count_include_pad,
        node.divisor,
    )


def _torch_op(node: TorchOp, *inputs: Any) -> Any:
    find = dict(zip(node.inputs, inputs, strict=True)).__getitem__
    kwargs = {key: decode(value, find) for key, value in node.kwargs.items()}
    return resolve(node.target)(*decode(list(node.args), find), **kwargs)


COMPUTE: dict[type[Node], Callable[..., Any]] = {
    Linear: _linear,
    Conv2d: _conv,
    Affine: _affine,
    BatchNorm: _batch_norm,
    Elementwise: lambda node, x: activate(x, node.activation),
    MaxPool2d: _max_pool,
    AvgPool2d: _avg_pool,
    AdaptiveAvgPool2d: lambda node, x: F.adaptive_avg_pool2d(x, node.size),
    Reshape: lambda node, x: x.reshape(x.shape[0], *node.shape),
    Add: lambda node, x, y: activate(x + y, node.activation),
    Concat: lambda node, *xs: torch.cat(xs, node.dim),
    Softmax: lambda node, x: torch.softmax(x, node.dim),
    TorchOp: _torch_op,
}
