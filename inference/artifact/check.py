"""What must hold of a graph that came out of a file, before anything is computed with it.

Layers are checked one by one: that sizes fit, and that what they declare to make is what they make. What
torch shall compute runs twice on tensors that have shapes and no memory, with batches of two and of
three, so that its declared shapes are compared too, and nothing in it can be larger than is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from inference.artifact.allowed import check_operators
from inference.artifact.check_layer import BYTES, check_bytes, check_layer, require
from inference.artifact.values import brief
from inference.capture import InputSpec
from inference.graph import Graph, Ref, TorchOp
from inference.interpret import compute, to_dtype

BATCHES = (2, 3)
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
    check_bytes(total * BYTES, max_bytes, "its values")
    for node in graph.nodes:
        try:
            if isinstance(node, TorchOp):
                _check_operator(node)
            else:
                check_layer(node, graph, max_bytes)
        except ValueError as error:
            raise ValueError(f"node {node.name[:80]!r}: {error}") from error
    if any(isinstance(node, TorchOp) for node in graph.nodes):
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


def _check_operator(node: TorchOp) -> None:
    refs = _refs([list(node.args), node.kwargs])
    if more := refs - set(node.inputs):
        raise ValueError(f"it reads {brief(sorted(more))}, which are not among its inputs")
    if node.target.startswith("operator."):
        # Python's own arithmetic is for sizes: it would repeat texts and lists without end.
        plain = all(isinstance(item, Ref | bool | int | float) for item in node.args)
        require(plain and not node.kwargs, "Python's operators take numbers only")


def _refs(argument: Any) -> set[str]:
    if isinstance(argument, Ref):
        return {argument.name}
    if isinstance(argument, Mapping):
        argument = list(argument.values())
    return {name for item in argument for name in _refs(item)} if isinstance(argument, list) else set()


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
                check_bytes(tensor.numel() * tensor.itemsize, self.max_bytes, "a value")
        return made


def _run(graph: Graph, inputs: Sequence[InputSpec], batch: int, max_bytes: int) -> None:
    """Run what torch computes, on tensors without memory."""
    values: dict[str, Any] = {}
    for name, spec in zip(graph.inputs, inputs, strict=True):
        dtype = torch.float32 if spec.dtype.is_floating_point else spec.dtype
        values[name] = torch.empty((batch, *spec.shape), dtype=dtype, device="meta")
    for node in graph.nodes:
        shape = graph.shapes[node.output]
        if shape is not None:
            values[node.output] = torch.empty((batch, *shape), device="meta")
        if not isinstance(node, TorchOp):
            continue
        try:
            with _Bounded(max_bytes * batch), torch.no_grad():
                made = _compute(node, values)
        except Exception as error:  # torch says in many ways that shapes do not fit.
            reason = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"node {node.name[:80]!r} cannot be computed: {reason[0]}") from error
        if shape is None:
            values[node.output] = made
            continue
        declared = values[node.output]
        if not isinstance(made, Tensor) or (made.shape, made.dtype) != (declared.shape, declared.dtype):
            found = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"node {node.name[:80]!r} declares {list(shape)}; of a batch of {batch} it makes {found}"
            )
    for name in graph.outputs:
        if not isinstance(values[name], Tensor):
            raise ValueError(f"output {name!r} is a {type(values[name]).__name__}, not a tensor")


def _compute(node: TorchOp, values: Mapping[str, Any]) -> Any:
    if isinstance(node, TorchOp) and node.target.startswith("operator."):
        given = [values[item.name] if isinstance(item, Ref) else item for item in node.args]
        plain = [item for item in given if isinstance(item, int | float)]
        if node.target == "operator.pow":
            require(len(plain) == 2 and abs(plain[1]) <= MOST_POWER, "its exponent is too large")
        indexed = node.target == "operator.getitem" and isinstance(given[0], list | tuple)
        require(indexed or len(plain) == len(given), "Python's operators take numbers only")
    made = compute(node, values)
    if isinstance(made, int) and not -LARGEST <= made < LARGEST:
        raise ValueError("its result is no size")
    return made
