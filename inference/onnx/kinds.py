"""What each value of a graph is: found by running it once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inference.graph import Graph
from inference.interpret import compute

BATCH = 2  # A batch of one could be taken for a dimension that broadcasts.


def find_kinds(graph: Graph, example: Sequence[Tensor]) -> dict[str, Any]:
    """Run a graph on zeros.

    Args:
        graph: The graph.
        example: One tensor ``[batch, ...]`` for each input; only shapes and dtypes matter.

    Returns:
        For each value a tensor on the meta device, of a batch of `BATCH`, or the number that it is, or a
        list of such.
    """
    values = {
        name: torch.zeros(BATCH, *x.shape[1:], dtype=torch.float32 if x.is_floating_point() else x.dtype)
        for name, x in zip(graph.inputs, example, strict=True)
    }
    kinds = {name: _describe(value) for name, value in values.items()}
    last_reader = {name: node for node in graph.nodes for name in node.inputs}
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for node in graph.nodes:
            values[node.output] = made = compute(node, values)
            kinds[node.output] = _describe(made)
            for name in {*node.inputs} & values.keys():
                if last_reader[name] is node:
                    del values[name]
    return kinds


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, list | tuple):
        return [_describe(item) for item in value]
    return value
