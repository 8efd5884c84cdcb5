"""What a compiled model keeps in order to be saved: its graph as traced, and its weights, encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from inference.artifact.codec import Encoded, decode, encode
from inference.artifact.graph_json import from_json, to_json
from inference.artifact.names import Finder, Names
from inference.artifact.state import decode_named, decode_state, encode_state, provenance
from inference.capture import InputSpec, Traced, prepare
from inference.fuse import drop_unread
from inference.graph import Graph
from inference.interpret import map_constants
from inference.rounding import round_weights, with_weight_dtype


@dataclass(frozen=True, eq=False)
class Source:
    """A model as it was before anything was folded, fused or removed.

    Attributes:
        graph: As JSON: what `inference.capture.trace` gave, with names instead of tensors.
        inputs: What the graph takes.
        tensors: By name: the state_dict's, and constants that are no views of these.
        constants: The names of the latter.
        tied: Further names in the state_dict, and the tensors that they name.
        provenance: What the model was, and what captured it.
        weight_dtype: What the weights of Linear and Conv2d layers were rounded to, and are held in, if
            it has 16 bits; float32 if they are as they were.
    """

    graph: Mapping[str, Any]
    inputs: Sequence[InputSpec]
    tensors: Mapping[str, Encoded]
    constants: frozenset[str]
    tied: Mapping[str, str]
    provenance: Mapping[str, Any]
    weight_dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, model: nn.Module, traced: Traced, weight_dtype: torch.dtype = torch.float32) -> Source:
        """Encode what was traced.

        Args:
            model: The model; not kept.
            traced: What `inference.capture.trace` made of it.
            weight_dtype: As in `inference.compile`.

        Raises:
            TypeError: If a tensor is not dense.
            ValueError: If ``weight_dtype`` is unknown, or too narrow for a weight.
        """
        round_weights(traced.graph, weight_dtype)
        model = getattr(model, "_orig_mod", model)
        state = {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
        tensors, tied = encode_state(state)
        names = Names({name: state[name] for name in tensors})
        graph = to_json(drop_unread(traced.graph), names)
        tensors |= {name: encode(constant) for name, constant in names.constants.items()}
        if weight_dtype != torch.float32:
            for name in {_base(names(node.weight)) for node in drop_unread(traced.graph).layers()}:
                tensors[name] = encode(decode(tensors[name]).to(weight_dtype))
        facts = {"model": type(model).__name__, **provenance(tensors)}
        return cls(graph, traced.inputs, tensors, frozenset(names.constants), tied, facts, weight_dtype)

    def prepare(self) -> Graph:
        """Return what `inference.capture.prepare` makes of the graph, its weights rounded if need be."""
        tensors = {name: decode_named(name, each) for name, each in self.tensors.items()}
        graph = from_json(self.graph, Finder(tensors))
        if self.weight_dtype != torch.float32:
            # A bias that takes over a BatchNorm's shift has the dtype of the weight.
            graph = with_weight_dtype(graph, torch.float32)
        return round_weights(prepare(graph), self.weight_dtype)

    def build_shapes(self) -> Graph:
        """Return the same with tensors that have a shape and no numbers."""
        empty = {
            name: torch.empty(each.shape, dtype=each.dtype, device="meta")
            for name, each in self.tensors.items()
        }
        return from_json(self.graph, Finder(empty))

    def state(self) -> dict[str, Tensor]:
        """Return the model's state_dict, dense."""
        return decode_state(self.tensors, self.constants, self.tied)

    def sharing(self, graph: Graph) -> Source:
        """Return the same, holding dense tensors in a graph's memory where the graph has them too."""
        there = list(_constants(graph))
        shared: dict[str, Encoded] = {}
        for name, each in self.tensors.items():
            at = next((i for i, tensor in enumerate(there) if _is_same(each, tensor)), None)
            # One memory for one tensor: a file's arrays must not overlap.
            shared[name] = each if at is None else Encoded(each.shape, there.pop(at))
        return replace(self, tensors=shared)


def _base(name: Any) -> str:
    """Return which tensor stands for one in JSON."""
    return name if isinstance(name, str) else str(name["tensor"])


def _constants(graph: Graph) -> Iterator[Tensor]:
    """Go through a graph's large tensors, each once."""
    found: dict[int, Tensor] = {}

    def collect(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            found[id(argument)] = argument
        elif isinstance(argument, list | tuple):
            for item in argument:
                collect(item)
        elif isinstance(argument, Mapping):
            collect(list(argument.values()))
        return argument

    for node in graph.nodes:
        map_constants(node, collect)
    return (tensor for tensor in found.values() if tensor.nbytes >= 4096)


def _is_same(each: Encoded, tensor: Tensor) -> bool:
    """Tell whether a dense tensor has the same bits as another."""
    if each.gaps is not None or each.dtype != tensor.dtype or each.shape != tuple(tensor.shape):
        return False
    return torch.equal(each.values.view(torch.uint8), tensor.contiguous().view(torch.uint8))
