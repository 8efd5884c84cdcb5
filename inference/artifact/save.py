"""Saves a compiled model."""

from __future__ import annotations

import math
from typing import Any

from inference.artifact import keys
from inference.artifact.check import check_graph
from inference.artifact.container import Contents, write
from inference.artifact.source import Source
from inference.files import FilePath
from inference.origin import Origin
from inference.plan import Plan


def save(path: FilePath, source: Source, plan: Plan, origin: Origin | None) -> None:
    """Save a model.

    Args:
        path: The file; its name is used as it is.
        source: What was compiled.
        plan: Which kernels compute it.
        origin: For reports.

    Raises:
        OSError: If the file cannot be written.
        TypeError: If a tensor is of a dtype that no file holds.
        ValueError: If the model is one that no file holds: with operators of other packages than torch.
    """
    # What could not be loaded must not be saved. The user's own model may be of any size.
    check_graph(source.build_shapes(), source.inputs, keys.MAX_SIZE)
    if len(plan.choices) > keys.MAX_CHOICES:
        raise ValueError(
            f"a file holds plans for {keys.MAX_CHOICES} batch sizes, not {len(plan.choices)}"
        )
    parts: dict[str, Any] = {
        keys.GRAPH: source.graph,
        keys.INPUTS: [
            {keys.SHAPE: list(spec.shape), keys.DTYPE: str(spec.dtype).removeprefix("torch.")}
            for spec in source.inputs
        ],
        keys.PLAN: plan.to_json(),
        keys.ORIGIN: None if origin is None else _origin(origin),
        keys.WEIGHT_DTYPE: str(source.weight_dtype).removeprefix("torch."),
    }
    write(path, Contents(source.tensors, source.constants, source.tied, source.provenance, parts))


def _origin(origin: Origin) -> dict[str, Any]:
    """Return it as JSON, which has no word for a difference that is infinite."""
    data = origin.to_json()
    for name, found in data.items():
        if name != "layers" and found and not all(map(math.isfinite, found.values())):
            data[name] = None
    return data
