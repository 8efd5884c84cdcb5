"""Loads a compiled model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inference.artifact import keys
from inference.artifact.check import check_graph
from inference.artifact.container import Contents, blamed, read
from inference.artifact.source import Source
from inference.artifact.values import as_dict, as_list, as_str, sizes
from inference.calls import check_threads
from inference.capture import InputSpec
from inference.compact import compact
from inference.engine import SparseModel
from inference.files import FilePath
from inference.machine import machine
from inference.measure import make_plan
from inference.native import KERNELS
from inference.origin import Origin
from inference.plan import Plan, static_plan
from inference.rounding import WEIGHT_DTYPES, with_weight_dtype


def load(
    path: FilePath,
    *,
    plan: str | Plan = "saved",
    threads: int = 1,
    max_bytes: int = keys.MAX_BYTES,
    progress: bool = False,
) -> SparseModel:
    """Load a model that `SparseModel.save` saved.

    It computes bit for bit what the saved one does if its plan is the same. The file may come from
    anyone: nothing in it is unpickled, it may name no operator but torch's arithmetic, and all its sizes
    are checked before they are used.

    Args:
        path: The file.
        plan: "saved" for the plan in the file, or "static" if that was measured on another machine;
            "measure", "static" or a plan as in `inference.compile`.
        threads: How many work on one call, on different samples.
        max_bytes: That the file may take, its weights when dense, and the values between its layers for
            one example. While it loads, a model takes a few times that of its dense weights.
        progress: Whether to show a bar while measuring.

    Returns:
        The model; `SparseModel.to_dense` gives the weights from which it was made.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, larger than allowed, of another format or of a newer version, or if
            it holds weights alone (which `inference.load_state` loads); for an unknown plan, or less
            than one thread.
    """
    if not isinstance(plan, Plan) and plan not in ("saved", "static", "measure"):
        raise ValueError(f"plan must be 'saved', 'static', 'measure' or a Plan, got {plan!r}")
    check_threads(threads)
    contents = read(path, max_bytes)
    with blamed(path):
        source, saved = _read_source(contents, max_bytes)
        if plan == "saved":
            plan = _usable(saved)
        graph = with_weight_dtype(compact(source.prepare()), source.weight_dtype)
        source = source.sharing(graph)
        noted = contents.parts.get(keys.ORIGIN)
        origin = None if noted is None else Origin.from_json(as_dict(noted, "the origin"))
    if isinstance(plan, str):
        batch_sizes = list(saved.choices)
        plan = make_plan(plan, graph, _example(source), batch_sizes, threads, progress)
    return SparseModel(graph, plan, threads=threads, origin=origin, source=source)


def _read_source(contents: Contents, max_bytes: int) -> tuple[Source, Plan]:
    if keys.GRAPH not in contents.parts:
        raise ValueError("it holds weights without a model; use inference.load_state")
    inputs = [
        InputSpec(sizes(entry.get(keys.SHAPE), "an input's shape"), _dtype(entry.get(keys.DTYPE)))
        for entry in (
            as_dict(item, "an input") for item in as_list(contents.parts.get(keys.INPUTS), "inputs")
        )
    ]
    source = Source(
        as_dict(contents.parts[keys.GRAPH], "the graph"),
        inputs,
        contents.tensors,
        contents.constants,
        contents.tied,
        contents.provenance,
        _dtype(contents.parts.get(keys.WEIGHT_DTYPE)),
    )
    if source.weight_dtype not in WEIGHT_DTYPES:
        raise ValueError(f"weights cannot be held in {source.weight_dtype}")
    check_graph(source.build_shapes(), inputs, max_bytes)
    saved = as_dict(contents.parts.get(keys.PLAN), "the plan")
    if len(as_dict(saved.get("choices"), "the plan's choices")) > keys.MAX_CHOICES:
        raise ValueError(f"its plan is for more than {keys.MAX_CHOICES} batch sizes")
    return source, Plan.from_json(saved)


def _dtype(name: Any) -> torch.dtype:
    dtype = keys.DTYPES.get(as_str(name, "a dtype"))
    if dtype is None:
        raise ValueError(f"the dtype {name[:80]!r} is unknown")
    return dtype


def _usable(saved: Plan) -> Plan:
    """Return a saved plan if it is for this machine, and for the kernels that there are today."""
    known = all(set(choice.kernels.values()) <= set(KERNELS) for choice in saved.choices.values())
    here = saved.source == "static" or saved.machine == machine()
    return saved if known and here else static_plan(list(saved.choices))


def _example(source: Source) -> list[Tensor]:
    """Make inputs to measure on: numbers below 1, and zeros where integers are taken."""
    return [
        torch.rand(1, *spec.shape)
        if spec.dtype.is_floating_point
        else torch.zeros(1, *spec.shape, dtype=spec.dtype)
        for spec in source.inputs
    ]
