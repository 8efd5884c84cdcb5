"""Graphs as JSON and back: layers, and the names of their tensors instead of these.

A tensor is its name, or ``{"tensor", "shape", "stride", "offset"}`` where it is a view of the named one,
which counts as contiguous. Among the arguments of a `TorchOp`, ``{"value": name}`` is a value,
``{"tensor": name}`` a tensor, and ``{"float": "nan"}`` a number that JSON has no word for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from inference import graph as layers
from inference.artifact.keys import MAX_NODES
from inference.artifact.values import as_bool, as_dict, as_int, as_list, as_str, brief, sizes
from inference.graph import Activation, Graph, Node, Ref, Shape

NODES: dict[str, type[Node]] = {
    kind.__name__: kind
    for kind in (
        layers.Linear,
        layers.Conv2d,
        layers.Affine,
        layers.BatchNorm,
        layers.Elementwise,
        layers.MaxPool2d,
        layers.AvgPool2d,
        layers.AdaptiveAvgPool2d,
        layers.Reshape,
        layers.Add,
        layers.Concat,
        layers.Softmax,
        layers.TorchOp,
    )
}
# Of windows: far more than any has, and far from where arithmetic overflows.
MOST_STEPS = 2**20
Find = Callable[[Any], Tensor]


def to_json(graph: Graph, name_of: Callable[[Tensor], Any]) -> dict[str, Any]:
    """Write a graph.

    Args:
        graph: As it was traced.
        name_of: Says what stands for a tensor.

    Returns:
        Objects, lists, numbers and texts.
    """
    return {
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "nodes": [_write_node(node, name_of) for node in graph.nodes],
        "shapes": {name: None if shape is None else list(shape) for name, shape in graph.shapes.items()},
    }


def _write_node(node: Node, name_of: Callable[[Tensor], Any]) -> dict[str, Any]:
    written: dict[str, Any] = {"type": type(node).__name__}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if field.name == "kwargs":
            written["kwargs"] = {key: _write(item, name_of) for key, item in value.items()}
        elif field.name == "args":
            written["args"] = _write(value, name_of)
        elif isinstance(value, Tensor):
            written[field.name] = name_of(value)
        elif isinstance(value, Activation):
            written[field.name] = {"kind": value.kind, "slope": _write(value.slope, name_of)}
        # What has its default is left out.
        elif field.default is dataclasses.MISSING or value != field.default:
            written[field.name] = _write(value, name_of)
    return written


def _write(value: Any, name_of: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_write(item, name_of) for item in value]
    if isinstance(value, Ref):
        return {"value": value.name}
    if isinstance(value, Tensor):
        return {"tensor": name_of(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def from_json(data: object, find: Find) -> Graph:
    """Read what `to_json` wrote.

    Args:
        data: Whatever came out of JSON.
        find: Finds the tensor that stands for one; may raise a ValueError.

    Returns:
        The graph, whose shapes and operators are still to be checked.

    Raises:
        ValueError: If it is no graph.
    """
    data = as_dict(data, "the graph")
    nodes = as_list(data.get("nodes"), "nodes")
    if len(nodes) > MAX_NODES:
        raise ValueError(f"a graph may have {MAX_NODES} nodes, this one has {len(nodes)}")
    shapes = {
        name: None if shape is None else sizes(shape, f"the shape of {name!r}")
        for name, shape in as_dict(data.get("shapes"), "shapes").items()
    }
    return Graph(
        _names(data.get("inputs"), "inputs"),
        _names(data.get("outputs"), "outputs"),
        tuple(_read_node(node, find) for node in nodes),
        shapes,
    )


def _read_node(data: object, find: Find) -> Node:
    data = dict(as_dict(data, "a node"))
    kind = NODES.get(as_str(data.pop("type", None), "a node's type"))
    what = f"node {brief(data.get('name'))}"
    if kind is None:
        raise ValueError(f"{what} is of no known type")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(data.keys() - fields.keys()):
        raise ValueError(f"{what} has unknown entries {brief(unknown)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{what} lacks {missing}")
    read = {name: READ[name](value, f"{name} of {what}", find) for name, value in data.items()}
    return kind(**read)


def _names(value: object, what: str) -> tuple[str, ...]:
    return tuple(as_str(item, what) for item in as_list(value, what))


def _pair(value: object, what: str, least: int) -> tuple[int, int]:
    found = sizes(value, what, least, MOST_STEPS)
    if len(found) != 2:
        raise ValueError(f"{what} must be two integers, got {brief(value)}")
    return (found[0], found[1])


def _float(value: object, what: str) -> float:
    if isinstance(value, Mapping) and value.keys() == {"float"}:
        value = float(as_str(value["float"], what))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number, got {brief(value)}")
    return float(value)


def _activation(value: object, what: str) -> Activation:
    data = as_dict(value, what)
    if data.keys() - {"kind", "slope"}:
        raise ValueError(f"{what} has unknown entries: {brief(sorted(data))}")
    return Activation(as_str(data.get("kind"), what), _float(data.get("slope", 0.0), what))


def _argument(value: object, what: str, find: Find) -> Any:
    """Read an argument of a `TorchOp`."""
    if isinstance(value, list):
        return [_argument(item, what, find) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"value"}:
            return Ref(as_str(value["value"], what))
        if value.keys() == {"tensor"}:
            return find(value["tensor"])
        return _float(value, what)
    if isinstance(value, int) and not isinstance(value, bool):
        return as_int(value, what, -(2**63), 2**63 - 1)
    return value


def _arguments(value: object, what: str, find: Find) -> tuple[Any, ...]:
    return tuple(_argument(item, what, find) for item in as_list(value, what))


def _keywords(value: object, what: str, find: Find) -> dict[str, Any]:
    return {key: _argument(item, what, find) for key, item in as_dict(value, what).items()}


def _tensor(value: object, what: str, find: Find) -> Tensor:
    return find(value)


def _shape(value: object, what: str, find: Find) -> Shape:
    return sizes(value, what)


# How each attribute of the layers is read; one name means one thing in all of them.
READ: dict[str, Callable[[object, str, Find], Any]] = {
    "name": lambda value, what, _: as_str(value, what),
    "inputs": lambda value, what, _: _names(value, what),
    "output": lambda value, what, _: as_str(value, what),
    "target": lambda value, what, _: as_str(value, what),
    **dict.fromkeys(("weight", "bias", "scale", "shift", "mean", "var"), _tensor),
    "activation": lambda value, what, _: _activation(value, what),
    **dict.fromkeys(
        ("kernel", "stride", "dilation", "size"), lambda value, what, _: _pair(value, what, 1)
    ),
    "padding": lambda value, what, _: _pair(value, what, 0),
    **dict.fromkeys(("groups", "divisor"), lambda value, what, _: as_int(value, what, 1, MOST_STEPS)),
    **dict.fromkeys(("ceil_mode", "count_include_pad"), lambda value, what, _: as_bool(value, what)),
    "shape": _shape,
    "dim": lambda value, what, _: as_int(value, what, 1, 64),
    "eps": lambda value, what, _: _float(value, what),
    "args": _arguments,
    "kwargs": _keywords,
}
