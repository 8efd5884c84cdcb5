"""An ONNX graph in the making: values by name, constants, and nodes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inference.graph import Graph, Node, Ref
from inference.onnx.extra import need

if TYPE_CHECKING:
    import onnx

# ONNX's numbers of element types; its own constants would need the package to be imported here.
ELEMENT_TYPES = {
    torch.float32: 1,
    torch.uint8: 2,
    torch.int8: 3,
    torch.int16: 5,
    torch.int32: 6,
    torch.int64: 7,
    torch.bool: 9,
    torch.float64: 11,
}

# A value of the graph is one ONNX value, or several where torch makes a list of tensors.
Made = str | list[str]


class Writer:
    """Takes nodes one after the other, and gives the graph that its outputs depend on.

    Attributes:
        graph: What is exported.
        kinds: What each value of it is: a tensor on the meta device, or a number, or a list of such.
        opset: Version of ONNX's operators.
    """

    def __init__(self, graph: Graph, kinds: Mapping[str, Any], opset: int) -> None:
        self.graph, self.kinds, self.opset = graph, kinds, opset
        self._helper: Any = need("onnx").helper
        self._made: dict[str, Made] = {name: name for name in graph.inputs}
        self._names = set(graph.inputs)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        self._shared: dict[tuple[int, str], tuple[Tensor, str]] = {}
        self._transposed: dict[int, tuple[Tensor, Tensor]] = {}
        self._node: Node | None = None

    def start(self, node: Node) -> None:
        """Say which node what follows is for: it gives names."""
        self._node = node

    def finish(self, node: Node, made: Made) -> None:
        """Say what a node has become."""
        self._made[node.output] = made

    def kind(self, argument: Any) -> Any:
        """Return what an argument is: a tensor on the meta device, a number, or a list of such."""
        if isinstance(argument, Ref):
            return self.kinds[argument.name]
        return argument.to("meta") if isinstance(argument, Tensor) else argument

    def rank(self, argument: Any) -> int:
        """Return the number of an argument's dimensions, the batch among them."""
        found = self.kind(argument)
        return found.dim() if isinstance(found, Tensor) else 0

    def result(self) -> Any:
        """Return what the node that is being written makes."""
        assert self._node is not None
        return self.kinds[self._node.output]

    def made(self, name: str) -> Made:
        """Return what a value of the graph has become."""
        return self._made[name]

    def value(self, argument: Any, dtype: torch.dtype | None = None) -> str:
        """Return the ONNX value of an argument.

        Args:
            argument: A `Ref`, a value's name, a tensor or a number.
            dtype: What it is converted to; None leaves it.
        """
        if isinstance(argument, str):
            argument = Ref(argument)
        if isinstance(argument, Ref):
            name, kind = self._made[argument.name], self.kinds[argument.name]
            assert isinstance(name, str), f"{argument.name} is a list"
            known = kind.dtype if isinstance(kind, Tensor) else torch.tensor(kind).dtype
            return name if dtype in (None, known) else self.cast(name, dtype or known)
        if isinstance(argument, Tensor):
            return self.constant(argument if dtype is None else argument.to(dtype))
        if isinstance(argument, bool | int | float):
            return self.constant(torch.tensor(argument, dtype=dtype))
        raise ValueError(f"there is no ONNX value for {argument!r}")

    def cast(self, name: str, dtype: torch.dtype) -> str:
        """Convert a value."""
        return self.emit("Cast", name, to=ELEMENT_TYPES[dtype])

    def constant(self, tensor: Tensor) -> str:
        """Return the name of an initializer; one tensor is stored once."""
        key = (id(tensor), str(tensor.dtype))
        if key not in self._shared:
            name = self._name(f"{self._node.name}.constant" if self._node is not None else "constant")
            # The tensor is kept, so that no other gets its id.
            self._shared[key] = (tensor, name)
            self._constants[name] = tensor.detach().cpu().contiguous().numpy()
        return self._shared[key][1]

    def transposed(self, weight: Tensor) -> str:
        """Return the name of a matrix that is stored the other way round."""
        key = id(weight)
        if key not in self._transposed:
            self._transposed[key] = (weight, weight.t().contiguous())
        return self.constant(self._transposed[key][1])

    def ints(self, *numbers: int) -> str:
        """Return a list of numbers as an initializer."""
        return self.constant(torch.tensor(numbers, dtype=torch.int64))

    def dims(self, sizes: Sequence[Any]) -> str:
        """Return sizes, some of which are known at run time only, as one list."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints(*sizes)
        parts = [
            self.ints(size) if isinstance(size, int) else self.unsqueezed(self.value(size), 0)
            for size in sizes
        ]
        return self.emit("Concat", *parts, axis=0)

    def unsqueezed(self, name: str, *axes: int) -> str:
        """Insert dimensions of one element."""
        return self.emit("Unsqueeze", name, self.ints(*axes))

    def emit(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output; returns its name."""
        return self.emit_many(op, inputs, 1, domain=domain, **attributes)[0]

    def emit_many(
        self, op: str, inputs: Sequence[str], outputs: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs; returns their names.

        Args:
            op: Its type.
            inputs: Names; "" for one that is left out.
            outputs: How many.
            domain: Of the operator; ONNX's own by default.
            **attributes: None for those that are left out.
        """
        base = self._node.output if self._node is not None else op.lower()
        names = [self._name(base) for _ in range(outputs)]
        label = f"{self._node.name if self._node is not None else ''}/{op}"
        given = {key: value for key, value in attributes.items() if value is not None}
        node = self._helper.make_node(op, list(inputs), names, name=label, domain=domain, **given)
        node.name = f"{label}.{len(self._nodes)}"
        self._nodes.append(node)
        return names

    def outputs(self) -> list[str]:
        """Return the names of the outputs: each once, and none of them an input."""
        self._node = None
        names: list[str] = []
        for value in self.graph.outputs:
            name = self._made[value]
            if not isinstance(name, str):
                raise ValueError(f"output {value!r} is a list of tensors; return them one by one")
            if name in names or name in self.graph.inputs or name in self._constants:
                name = self.emit("Identity", name)
            names.append(name)
        return names

    def needed(
        self, outputs: Sequence[str]
    ) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray[Any, Any]]]:
        """Return the nodes and constants that outputs depend on."""
        read, kept = set(outputs), []
        for node in reversed(self._nodes):
            if read.intersection(node.output):
                kept.append(node)
                read.update(node.input)
        return kept[::-1], {name: data for name, data in self._constants.items() if name in read}

    def _name(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}.{count}"
        self._names.add(name)
        return name
