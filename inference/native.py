"""The compiled engine: what it can run, and programs for it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from inference.graph import Conv2d, Graph, Linear, Node
from inference.lowering import lower_into, runs
from inference.lowering.context import lanes_for

if TYPE_CHECKING:
    from inference import _native
else:
    try:
        from inference import _native
    except ImportError:
        _native = None

if _native is not None:
    # Newer versions of torch describe tensors by a C function; of older ones, the NumPy array is read.
    _native.register_tensors(
        (torch.Tensor, torch.nn.Parameter), getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    )

KERNELS = ("sparse", "dense")


@dataclass(frozen=True, eq=False)
class Lowered:
    """A graph as the engine runs it.

    Attributes:
        program: Compiled; several threads may run it.
        kernels: Which kernel each layer with weights got, by its name.
        bytes: Of each layer's weights as packed, by its name.
    """

    program: _native.Program
    kernels: Mapping[str, str]
    bytes: Mapping[str, int]


def is_built() -> bool:
    """Say whether the extension is installed."""
    return _native is not None


@functools.cache
def say_that_it_is_missing() -> None:
    """Write to the log, once a process, that the extension is not installed."""
    logging.getLogger("inference").warning(
        "the compiled extension is not installed: models run in torch, which takes longer. "
        "Reinstall dwf-optim where there is a C++ compiler."
    )


def takes(node: Node, graph: Graph) -> bool:
    """Say whether the engine runs a layer of a graph."""
    return _native is not None and runs(node, graph)


def candidates(node: Node) -> tuple[str, ...]:
    """Return the kernels that a layer may get."""
    return KERNELS if isinstance(node, Linear | Conv2d) else ()


def lower(graph: Graph, kernels: Mapping[str, str] | None = None, instruction_set: str = "") -> Lowered:
    """Make a program of a graph.

    Args:
        graph: Of layers that the engine `takes`; its shapes are of one sample.
        kernels: By the names of layers with weights; the others get what suits their zeros.
        instruction_set: One of `instruction_sets`; the widest of this machine if empty.

    Raises:
        ValueError: If a kernel or the instruction set is unknown.
    """
    chosen = dict(kernels or {})
    if unknown := sorted(set(chosen.values()) - set(KERNELS)):
        raise ValueError(f"unknown kernels {unknown}; use one of {KERNELS}")
    builder = _native.Builder(instruction_set, lanes_for(graph))
    places: dict[str, int] = {}
    outputs, given = lower_into(
        builder, graph, chosen, lambda node: places.setdefault(node.name, builder.size)
    )
    program = builder.build(outputs)
    sizes = {node.name: program.bytes[places[node.name]] for node in graph.layers()}
    return Lowered(program, given, sizes)


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Return what this machine has, the narrowest first; nothing without the extension."""
    return tuple(_native.instruction_sets()) if _native is not None else ()
