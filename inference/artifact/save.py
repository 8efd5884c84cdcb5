"""Saves a compiled model."""

from __future__ import annotations

from typing import Any

from inference.artifact import keys
from inference.artifact.check import check_graph
from inference.artifact.container import Contents, FilePath, write
from inference.artifact.source import Source
from inference.plan import Plan


def save(path: FilePath, source: Source, plan: Plan) -> None:
    """Save a model.

    Args:
        path: The file; its name is used as it is.
        source: What was compiled.
        plan: Which kernels compute it.

    Raises:
        OSError: If the file cannot be written.
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
    }
    write(path, Contents(source.tensors, source.constants, source.tied, source.provenance, parts))
