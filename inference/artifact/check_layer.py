"""What must hold of a layer that came out of a file: sizes fit, and it makes what it declares."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from inference.artifact.values import brief
from inference.graph import (
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
    Shape,
    Softmax,
)
from inference.interpret import compute

# Compaction computes in float64.
BYTES = 8


def check_bytes(count: int, max_bytes: int, what: str) -> None:
    """Refuse what takes more bytes than is allowed."""
    if count > max_bytes:
        raise ValueError(
            f"{what} would take more than {max_bytes} bytes; if you trust the file, pass a larger "
            "max_bytes"
        )


def check_layer(node: Node, graph: Graph, max_bytes: int) -> None:
    """Check one layer: what it reads and makes, and its weights.

    Args:
        node: Any but a `TorchOp`; its constants may be on the meta device.
        graph: The whole.
        max_bytes: That its input with zeros around it may take, and what a convolution makes of that.

    Raises:
        ValueError: If sizes do not fit each other, or are larger than is allowed.
    """
    arity = 2 if isinstance(node, Add) else None if isinstance(node, Concat) else 1
    if not node.inputs or (arity is not None and len(node.inputs) != arity):
        raise ValueError(f"it has {len(node.inputs)} inputs")
    shapes = [graph.shapes[name] for name in (*node.inputs, node.output)]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        raise ValueError("it reads or makes a value without a shape")
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d):
        padding = node.padding
        _image(node, *known)
        sizes = [size + 2 * pad for size, pad in zip(known[0][1:], padding, strict=True)]
        check_bytes(known[0][0] * math.prod(sizes) * BYTES, max_bytes, "its input with zeros around it")
    CHECKS[type(node)](node, *known)
    if isinstance(node, Conv2d):
        taps = math.prod(node.weight.shape[1:]) * node.groups
        check_bytes(taps * math.prod(known[-1][1:]) * BYTES, max_bytes, "what it reads")


def require(condition: bool, what: str) -> None:
    """Refuse what is not as it must be."""
    if not condition:
        raise ValueError(what)


def _vectors(channels: int, *tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None:
            fits = tuple(tensor.shape) == (channels,) and tensor.is_floating_point()
            require(fits, f"a vector of {channels} numbers is of {list(tensor.shape)} {tensor.dtype}")


def _linear(node: Linear, x: Shape, y: Shape) -> None:
    weight = node.weight
    require(weight.dim() == 2 and weight.is_floating_point(), "its weight is no matrix")
    fits = len(x) > 0 and x[-1] == weight.shape[1] and y == (*x[:-1], len(weight))
    require(fits, f"weight {list(weight.shape)} does not make {list(y)} of {list(x)}")
    _vectors(len(weight), node.bias)


def _conv(node: Conv2d, x: Shape, y: Shape) -> None:
    _image(node, x, y)
    weight = node.weight
    require(weight.dim() == 4 and weight.is_floating_point(), "its weight is no stack of filters")
    require(0 not in weight.shape, "its weight is empty")
    fits = weight.shape[1] * node.groups == x[0] and len(weight) % node.groups == 0
    require(fits, f"weight {list(weight.shape)} in {node.groups} groups does not fit {x[0]} channels")
    _vectors(len(weight), node.bias)
    rows, columns = (
        (x[d + 1] + 2 * node.padding[d] - node.dilation[d] * (weight.shape[d + 2] - 1) - 1)
        // node.stride[d]
        + 1
        for d in (0, 1)
    )
    require(y == (len(weight), rows, columns), f"it makes {[len(weight), rows, columns]}, not {list(y)}")


def _pool(node: MaxPool2d | AvgPool2d | AdaptiveAvgPool2d, x: Shape, y: Shape) -> None:
    _image(node, x, y)
    try:
        made = compute(node, {node.inputs[0]: torch.empty(1, *x, device="meta")})
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    require(tuple(made.shape[1:]) == y, f"it makes {list(made.shape[1:])}, not {list(y)}")


def _image(node: Node, x: Shape, y: Shape) -> None:
    require(len(x) == len(y) == 3 and 0 not in (*x, *y), f"{list(x)} or {list(y)} is no image")


def _channels(node: Affine | BatchNorm, x: Shape, y: Shape) -> None:
    require(len(x) > 0 and x == y, f"it makes {list(y)} of {list(x)}")
    tensors = (
        (node.scale, node.shift)
        if isinstance(node, Affine)
        else (node.mean, node.var, node.weight, node.bias)
    )
    _vectors(x[0], *tensors)


def _same(node: Node, *shapes: Shape) -> None:
    require(len(set(shapes)) == 1, f"its values have shapes {brief(shapes)}")


def _reshape(node: Reshape, x: Shape, y: Shape) -> None:
    fits = node.shape == y and math.prod(x) == math.prod(y)
    require(fits, f"it makes {list(y)} of {list(x)} as {list(node.shape)}")


def _concat(node: Concat, *shapes: Shape) -> None:
    *parts, whole = (list(shape) for shape in shapes)
    require(all(node.dim <= len(part) for part in parts), f"there is no dimension {node.dim}")
    at = node.dim - 1
    made = [*parts[0][:at], sum(part[at] for part in parts), *parts[0][at + 1 :]]
    fits = made == whole and all(
        part[:at] + part[at + 1 :] == made[:at] + made[at + 1 :] for part in parts
    )
    require(fits, f"it makes {whole} of {brief(parts)}")


def _softmax(node: Softmax, x: Shape, y: Shape) -> None:
    require(x == y and node.dim <= len(x), f"it makes {list(y)} of {list(x)} along {node.dim}")


CHECKS: dict[type[Node], Callable[..., None]] = {
    Linear: _linear,
    Conv2d: _conv,
    Affine: _channels,
    BatchNorm: _channels,
    Elementwise: _same,
    MaxPool2d: _pool,
    AvgPool2d: _pool,
    AdaptiveAvgPool2d: _pool,
    Reshape: _reshape,
    Add: _same,
    Concat: _concat,
    Softmax: _softmax,
}
