"""The two ways to run a segment of a graph: one native call, or torch layer by layer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from inference import native
from inference.formats import CSRArrays, find_backend
from inference.graph import Conv2d, Graph, Linear, Node, Shape
from inference.interpret import activate, compute
from inference.rounding import with_weight_dtype
from inference.segments import Segment

# Zeros from which torch's CSR product is taken to be faster than its dense one: prototypes broke even
# between 0.8 and 0.9, and a layer that just breaks even gains nothing.
TORCH_CSR_FROM = 0.9

Values = dict[str, Any]


class Step(ABC):
    """Computes some values of a graph from others.

    Attributes:
        segment: What it computes.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    @abstractmethod
    def run(self, values: Values, batch: int, threads: int) -> None:
        """Add the segment's outputs to the values.

        Args:
            values: Tensors by name; on the CPU, those of the engine in float32.
            batch: Size of their first dimension.
            threads: How many may work at once.
        """

    @abstractmethod
    def kernel(self, node: Node) -> str:
        """Say how a layer is computed, in a word."""

    @abstractmethod
    def bytes(self, node: Node) -> int:
        """Say how much memory a layer's weights take."""

    @abstractmethod
    def alone(self, node: Node, values: Values, threads: int) -> Callable[[], object]:
        """Make a call that computes one layer, by the kernel that it has here.

        Args:
            node: One of the segment's.
            values: What it reads, as in `run`.
            threads: How many may work at once.
        """


class NativeStep(Step):
    """One call of the engine."""

    def __init__(self, segment: Segment, kernels: Mapping[str, str], instruction_set: str = "") -> None:
        super().__init__(segment)
        here = {node.name for node in segment.graph.layers()}
        chosen = {k: v for k, v in kernels.items() if k in here}
        lowered = native.lower(segment.graph, chosen, instruction_set)
        self.program, self._kernels, self._bytes = lowered.program, lowered.kernels, lowered.bytes

    @override
    def run(self, values: Values, batch: int, threads: int) -> None:
        graph, lead = self.segment.graph, self.segment.lead
        rows = batch * math.prod(lead)

        def shape(name: str) -> Shape:
            found = graph.shapes[name]
            assert found is not None
            return found

        inputs = [values[name].contiguous().view(rows, *shape(name)) for name in graph.inputs]
        outputs = []
        for name in graph.outputs:
            values[name] = torch.empty(batch, *lead, *shape(name))
            outputs.append(values[name].view(rows, *shape(name)))
        self.program.run(inputs, outputs, threads)

    @override
    def kernel(self, node: Node) -> str:
        return self._kernels.get(node.name, "native")

    @override
    def bytes(self, node: Node) -> int:
        return self._bytes.get(node.name, 0)

    @override
    def alone(self, node: Node, values: Values, threads: int) -> Callable[[], object]:
        graph, lead = self.segment.graph, self.segment.lead
        shapes = {name: graph.shapes[name] for name in (*node.inputs, node.output)}
        # An input that is read twice is one input.
        inputs = tuple(dict.fromkeys(node.inputs))
        one = Segment(Graph(inputs, (node.output,), (node,), shapes), native=True, lead=lead)
        kernels = {node.name: self._kernels[node.name]} if node.name in self._kernels else {}
        step = NativeStep(one, kernels)
        batch = values[inputs[0]].shape[0]
        given = {name: values[name].contiguous() for name in inputs}
        if len(inputs) == 1 and not lead:  # as in a call of the whole, where nothing is in between
            x, out = given[inputs[0]], torch.empty(batch, *(shapes[node.output] or ()))
            return lambda: step.program.run(x, out, threads)
        return lambda: step.run(dict(given), batch, threads)


class TorchStep(Step):
    """torch, layer after layer; very sparse Linear layers by its CSR product."""

    def __init__(self, segment: Segment, *, csr: bool) -> None:
        """Prepares the layers.

        Args:
            segment: What is computed.
            csr: Whether sparse weights are multiplied as such; else all is dense.
        """
        super().__init__(segment)
        self._computed: list[tuple[Node, Callable[[Mapping[str, Any]], Any], str]] = []
        # Once, rather than in each call.
        graph = with_weight_dtype(segment.graph, torch.float32)
        for node in graph.nodes:
            if csr and isinstance(node, Linear) and _zeros(node.weight) >= TORCH_CSR_FROM:
                self._computed.append((node, _CsrLinear(node), "torch csr"))
            else:
                self._computed.append((node, _dense(node), "torch"))
        self._dropped = _last_read(segment.graph)

    @override
    def run(self, values: Values, batch: int, threads: int) -> None:
        for (node, function, _), dropped in zip(self._computed, self._dropped, strict=True):
            values[node.output] = function(values)
            for name in dropped:
                del values[name]

    @override
    def kernel(self, node: Node) -> str:
        return next(kind for each, _, kind in self._computed if each.name == node.name)

    @override
    def bytes(self, node: Node) -> int:
        held, compute = next((each, f) for each, f, _ in self._computed if each.name == node.name)
        if isinstance(compute, _CsrLinear):
            return compute.bytes
        return held.weight.nbytes if isinstance(held, Linear | Conv2d) else 0

    @override
    def alone(self, node: Node, values: Values, threads: int) -> Callable[[], object]:
        function = next(function for each, function, _ in self._computed if each.name == node.name)
        return lambda: function(values)


def _dense(node: Node) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: compute(node, values)


class _CsrLinear:
    """A Linear layer whose weight is held as torch's CSR."""

    def __init__(self, node: Linear) -> None:
        arrays = CSRArrays.from_dense(node.weight)
        self.weight, self.bytes = find_backend("torch").wrap(arrays), arrays.nbytes
        self.node = node

    def __call__(self, values: Mapping[str, Any]) -> Tensor:
        x: Tensor = values[self.node.inputs[0]]
        out = (self.weight @ x.reshape(-1, x.shape[-1]).t()).t()
        if self.node.bias is not None:
            out = out + self.node.bias
        return activate(out.reshape(*x.shape[:-1], out.shape[-1]), self.node.activation)


def _zeros(weight: Tensor) -> float:
    return 1 - int(weight.count_nonzero()) / max(1, weight.numel())


def _last_read(graph: Graph) -> list[list[str]]:
    """Return, for each node, the values made within the graph that nobody reads after it."""
    last = {name: node for node in graph.nodes for name in node.inputs}
    made = {node.output for node in graph.nodes} - set(graph.outputs)
    return [[name for name in set(node.inputs) & made if last[name] is node] for node in graph.nodes]
