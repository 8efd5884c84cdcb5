"""What must hold of a graph that came out of a file, before anything is computed with it.

The graph runs twice on tensors that have shapes and no memory, with batches of two and of three: so
every shape that it declares is compared with what torch makes of it, and nothing in it can be larger
than is allowed. What torch would take and the engine would not is checked besides, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from inference.artifact.allowed import check_operators
from inference.artifact.values import brief
from inference.capture import InputSpec
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
    Ref,
    Reshape,
    Shape,
    Softmax,
    TorchOp,
)
from inference.interpret import compute, to_dtype

BATCHES = (2, 3)
# Compaction computes in float64.
BYTES = 8
# Integers in a graph are sizes, and what is computed from them.
LARGEST = 2**63
MOST_POWER = 8


def check_graph(graph: Graph, inputs: Sequence[InputSpec], max_bytes: int) -> None:
    """Check a graph as it was traced.

    Args:
        graph: Its constants may be on the meta device: their numbers are not read.
        inputs: What it takes.
        max_bytes: That all values for one example may take in float64; also each value for itself, and
            what a convolution makes of its input.

    Raises:
        ValueError: If a layer's sizes do not fit, a declared shape is not what torch computes, an
            operator is not allowed, or something is larger than is allowed.
    """
    check_operators(graph)
    _check_names(graph, inputs)
    total = sum(math.prod(shape) for shape in graph.shapes.values() if shape is not None)
    _check_bytes(total * BYTES, max_bytes, "its values")
    for node in graph.nodes:
        try:
            _check_node(node, graph, max_bytes)
        except ValueError as error:
            raise ValueError(f"node {node.name[:80]!r}: {error}") from error
    graph = to_dtype(graph, torch.float32, device="meta")
    for batch in BATCHES:
        _run(graph, inputs, batch, max_bytes)


def _check_names(graph: Graph, inputs: Sequence[InputSpec]) -> None:
    names = [node.name for node in graph.nodes]
    if len(set(names)) < len(names):
        raise ValueError("two nodes have the same name")
    if len(set(graph.inputs)) < len(graph.inputs) or len(inputs) != len(graph.inputs):
        raise ValueError(f"inputs {brief(graph.inputs)} are described by {len(inputs)} entries")
    if not graph.inputs or not graph.outputs:
        raise ValueError("the graph has no inputs or no outputs")
    made = {*graph.inputs, *(node.output for node in graph.nodes)}
    if more := graph.shapes.keys() - made:
        raise ValueError(f"it has shapes of {brief(sorted(more))}, which no node makes")
    for name, spec in zip(graph.inputs, inputs, strict=True):
        shape = graph.shapes[name]
        if shape is not None and (shape != spec.shape or not spec.dtype.is_floating_point):
            raise ValueError(f"input {name!r} is described as {spec.dtype} of {spec.shape} and {shape}")


def _check_bytes(count: int, max_bytes: int, what: str) -> None:
    if count > max_bytes:
        raise ValueError(
            f"{what} would take more than {max_bytes} bytes; if you trust the file, pass a larger "
            "max_bytes"
        )


def _check_node(node: Node, graph: Graph, max_bytes: int) -> None:
    if isinstance(node, TorchOp):
        refs = _refs([list(node.args), node.kwargs])
        if more := refs - set(node.inputs):
            raise ValueError(f"it reads {brief(sorted(more))}, which are not among its inputs")
        if node.target.startswith("operator."):
            _check_plain(node)
        return
    arity = 2 if isinstance(node, Add) else None if isinstance(node, Concat) else 1
    if not node.inputs or (arity is not None and len(node.inputs) != arity):
        raise ValueError(f"it has {len(node.inputs)} inputs")
    shapes = [graph.shapes[name] for name in (*node.inputs, node.output)]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        raise ValueError("it reads or makes a value without a shape")
    check = CHECKS.get(type(node))
    if check is not None:
        check(node, *known)
    if isinstance(node, Conv2d):
        taps = math.prod(node.weight.shape[1:]) * node.groups
        _check_bytes(taps * math.prod(known[-1][1:]) * BYTES, max_bytes, "what it reads")
    if isinstance(node, Conv2d | MaxPool2d | AvgPool2d):
        sizes = [size + 2 * pad for size, pad in zip(known[0][1:], node.padding, strict=True)]
        _check_bytes(known[0][0] * math.prod(sizes) * BYTES, max_bytes, "its input with zeros around it")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _vectors(channels: int, *tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None:
            fits = tuple(tensor.shape) == (channels,) and tensor.is_floating_point()
            _require(fits, f"a vector of {channels} numbers is of {list(tensor.shape)} {tensor.dtype}")


def _linear(node: Linear, x: Shape, y: Shape) -> None:
    weight = node.weight
    _require(len(x) > 0 and weight.dim() == 2 and weight.is_floating_point(), "its weight is no matrix")
    _vectors(len(weight), node.bias)


def _conv(node: Conv2d, x: Shape, y: Shape) -> None:
    weight = node.weight
    _require(len(x) == 3, f"its input is no image but {list(x)}")
    _require(weight.dim() == 4 and weight.is_floating_point(), "its weight is no stack of filters")
    _require(0 not in weight.shape, "its weight is empty")
    _require(max(weight.shape[2:]) <= 2**16 and max(node.padding) <= 2**16, "its window is too large")
    fits = weight.shape[1] * node.groups == x[0] and len(weight) % node.groups == 0
    _require(fits, f"weight {list(weight.shape)} in {node.groups} groups does not fit {x[0]} channels")
    _vectors(len(weight), node.bias)


def _channels(node: Affine | BatchNorm, x: Shape, y: Shape) -> None:
    _require(len(x) > 0 and x == y, f"it makes {list(y)} of {list(x)}")
    tensors = (
        (node.scale, node.shift)
        if isinstance(node, Affine)
        else (node.mean, node.var, node.weight, node.bias)
    )
    _vectors(x[0], *tensors)


def _image(node: Node, x: Shape, y: Shape) -> None:
    _require(len(x) == 3 and 0 not in x, f"its input is no image but {list(x)}")


def _same(node: Node, *shapes: Shape) -> None:
    _require(len(set(shapes)) == 1, f"its values have shapes {brief(shapes)}")


def _reshape(node: Reshape, x: Shape, y: Shape) -> None:
    fits = node.shape == y and math.prod(x) == math.prod(y)
    _require(fits, f"it makes {list(y)} of {list(x)} as {list(node.shape)}")


def _along(node: Concat | Softmax, *shapes: Shape) -> None:
    _require(all(node.dim <= len(shape) for shape in shapes), f"there is no dimension {node.dim}")


CHECKS: dict[type[Node], Callable[..., None]] = {
    Linear: _linear,
    Conv2d: _conv,
    Affine: _channels,
    BatchNorm: _channels,
    Elementwise: _same,
    MaxPool2d: _image,
    AvgPool2d: _image,
    AdaptiveAvgPool2d: _image,
    Reshape: _reshape,
    Add: _same,
    Concat: _along,
    Softmax: _along,
}


def _refs(argument: Any) -> set[str]:
    if isinstance(argument, Ref):
        return {argument.name}
    if isinstance(argument, Mapping):
        argument = list(argument.values())
    return {name for item in argument for name in _refs(item)} if isinstance(argument, list) else set()


def _check_plain(node: TorchOp) -> None:
    """Python's own arithmetic is for sizes: it would repeat texts and lists without end."""
    plain = all(isinstance(item, Ref | bool | int | float) for item in node.args)
    _require(plain and not node.kwargs, "Python's operators take numbers only")


class _Bounded(TorchDispatchMode):
    """Lets operators run on tensors without memory, and none make a large one."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.max_bytes = max_bytes

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if any(argument.name == "device" for argument in func._schema.arguments):
            kwargs["device"] = "meta"
        made = func(*args, **kwargs)
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, Tensor):
                _check_bytes(tensor.numel() * tensor.itemsize, self.max_bytes, "a value")
        return made


def _run(graph: Graph, inputs: Sequence[InputSpec], batch: int, max_bytes: int) -> None:
    values: dict[str, Any] = {}
    for name, spec in zip(graph.inputs, inputs, strict=True):
        dtype = torch.float32 if spec.dtype.is_floating_point else spec.dtype
        values[name] = torch.empty((batch, *spec.shape), dtype=dtype, device="meta")
    for node in graph.nodes:
        try:
            with _Bounded(max_bytes * batch), torch.no_grad():
                made = values[node.output] = _compute(node, values)
        except Exception as error:  # torch says in many ways that shapes do not fit.
            reason = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"node {node.name[:80]!r} cannot be computed: {reason[0]}") from error
        shape = graph.shapes[node.output]
        if shape is None:
            continue
        if (
            not isinstance(made, Tensor)
            or tuple(made.shape) != (batch, *shape)
            or made.dtype != torch.float32
        ):
            found = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"node {node.name[:80]!r} declares {list(shape)}; of a batch of {batch} it makes {found}"
            )
    for name in graph.outputs:
        if not isinstance(values[name], Tensor):
            raise ValueError(f"output {name!r} is a {type(values[name]).__name__}, not a tensor")


def _compute(node: Node, values: Mapping[str, Any]) -> Any:
    if isinstance(node, TorchOp) and node.target.startswith("operator."):
        given = [values[item.name] if isinstance(item, Ref) else item for item in node.args]
        plain = [item for item in given if isinstance(item, int | float)]
        if node.target == "operator.pow":
            _require(len(plain) == 2 and abs(plain[1]) <= MOST_POWER, "its exponent is too large")
        indexed = node.target == "operator.getitem" and isinstance(given[0], list | tuple)
        _require(indexed or len(plain) == len(given), "Python's operators take numbers only")
    made = compute(node, values)
    if isinstance(made, int) and not -LARGEST <= made < LARGEST:
        raise ValueError("its result is no size")
    return made
