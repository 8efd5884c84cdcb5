"""An exported program on its way to a graph: what is a value, what a constant, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from inference.graph import Node, Ref, Shape, TorchOp
from inference.operators import encode, operator_name

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


Arguments = dict[str, Any]


class Trace:
    """What is known of the nodes of an exported program that were seen so far.

    A traced node is a constant (known now), a value (known at run time), or a value held with its
    first two dimensions swapped: what `torch.nn` calls tokens first is kept batch first as long as
    possible.

    Attributes:
        batch: The symbol of the batch's size.
        constants: Tensors, numbers and lists by traced node.
        names: Names of values in the graph by traced node.
        swapped: The same for those that are held with the first two dimensions swapped.
        nodes: The graph's nodes so far.
        shapes: Of all values, as in `inference.graph.Graph`.
    """

    def __init__(self, batch: object, targets: Mapping[str, str], leaves: frozenset[str]) -> None:
        """Starts with nothing seen.

        Args:
            batch: The symbol of the batch's size.
            targets: Parameters' and buffers' names in the model by placeholder.
            leaves: Paths of modules that have no children.
        """
        self.batch = batch
        self.targets = targets
        self.leaves = leaves
        self.constants: dict[fx.Node, Any] = {}
        self.names: dict[fx.Node, str] = {}
        self.swapped: dict[fx.Node, str] = {}
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape | None] = {}
        self._used: set[str] = set()
        self._swapped = False

    def constant(self, argument: object) -> Tensor | None:
        """Return the tensor that an argument is, if it is known now."""
        found = self.constants.get(argument) if isinstance(argument, fx.Node) else None
        return found if isinstance(found, Tensor) else None

    @contextmanager
    def looking(self, swapped: bool) -> Iterator[None]:
        """Let `value`, `shape` and `held` speak of values with the first two dimensions swapped."""
        was, self._swapped = self._swapped, swapped
        yield
        self._swapped = was

    @property
    def held(self) -> dict[fx.Node, str]:
        """Names of values that are held in the order that is looked at."""
        return self.swapped if self._swapped else self.names

    def value(self, argument: object) -> str | None:
        """Return the name of a floating-point value that has the batch first, as layers need it."""
        if not isinstance(argument, fx.Node) or self.shape(argument) is None:
            return None
        return self.held.get(argument)

    def shape(self, node: fx.Node) -> Shape | None:
        """Return a floating-point tensor's shape without the batch; None if there is no such."""
        found = node.meta.get("val")
        if not isinstance(found, Tensor) or found.dtype not in FLOAT_DTYPES:
            return None
        shape = tuple(found.shape)
        return self._without_batch((*shape[1::-1], *shape[2:]) if self._swapped else shape)

    def _without_batch(self, shape: tuple[Any, ...]) -> Shape | None:
        if not shape or not self._is_batch(shape[0]):
            return None
        rest = shape[1:]
        return rest if all(isinstance(size, int) for size in rest) else None

    def _is_batch(self, size: object) -> bool:
        return isinstance(size, torch.SymInt) and size.node.expr == self.batch

    def add(self, node: Node, shape: Shape | None) -> str:
        """Append a node; returns the name of its value."""
        self.nodes.append(node)
        self.shapes[node.output] = shape
        return node.output

    def materialize(self, node: fx.Node) -> str:
        """Return the name of a value as the model has it, swapping it back if need be."""
        if node not in self.names:
            held = self.swapped[node]
            name = self.name(node, weight=None) + ".swap"
            swap = TorchOp(
                name=name,
                inputs=(held,),
                output=f"{node.name}.swap",
                target="aten.transpose.int",
                args=(Ref(held), 0, 1),
            )
            self.names[node] = self.add(swap, self.shape(node))
        return self.names[node]

    def name(self, node: fx.Node, weight: object) -> str:
        """Name a node of the graph by its module.

        Args:
            node: The traced node.
            weight: The traced node of its weight, if it has one: the module that holds it names the
                layer.

        Returns:
            The path, unique.
        """
        path = module_path(node)
        target = self.targets.get(weight.name) if isinstance(weight, fx.Node) else None
        if path in self.leaves:
            name = path
        elif target is not None:
            name = target.removesuffix("weight").rstrip("._") or node.name
        else:
            name = f"{path}.{node.name}" if path else node.name
        # Only a module or weight that is used again meets its own name.
        unique, count = name, 1
        while unique in self._used:
            count += 1
            unique = f"{name}#{count}"
        self._used.add(unique)
        return unique

    def header(self, node: fx.Node, *inputs: str, weight: object = None) -> dict[str, Any]:
        """Return a layer's name, inputs and output; ``weight`` as in `name`."""
        return {"name": self.name(node, weight), "inputs": inputs, "output": node.name}

    def torch_op(self, node: fx.Node) -> None:
        """Append a traced node as it is.

        Args:
            node: A call of an operator.

        Raises:
            ValueError: If what it calls is no operator of torch, or gets arguments that no graph can
                hold.
        """
        target = operator_name(node.target)
        refs: dict[str, None] = {}

        def convert(argument: Any) -> Any:
            if isinstance(argument, list | tuple):
                return [convert(item) for item in argument]
            if not isinstance(argument, fx.Node):
                return encode(argument)
            if argument in self.constants:
                return encode(self.constants[argument])
            name = self.materialize(argument)
            refs[name] = None
            return Ref(name)

        place = f"module {module_path(node)!r}" if module_path(node) else "the model"
        if target is None:
            raise ValueError(
                f"{place} cannot be captured: it calls {node.target}, which is no operator of torch; "
                "control flow must not depend on data"
            )
        if target.startswith(("aten.as_strided", "quantized.")):
            raise ValueError(f"{place} cannot be captured: {target} is not supported")
        try:
            args = tuple(convert(argument) for argument in node.args)
            kwargs = {key: convert(argument) for key, argument in node.kwargs.items()}
        except TypeError as error:
            raise ValueError(f"{place} cannot be captured: {target} has an {error}") from error
        # Values may lie in memory in another order than in the model, where a view is not possible.
        if target in ("aten.view.default", "aten._unsafe_view.default"):
            target = "aten.reshape.default"
        name = self.name(node, None)
        made = TorchOp(
            name=name,
            inputs=tuple(refs),
            output=node.name,
            target=target,
            args=args,
            kwargs=kwargs,
        )
        self.names[node] = self.add(made, self.shape(node))


def module_path(node: fx.Node) -> str:
    """Return the path of the module that a traced node was called in; "" for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if not path.startswith("_empty")]
    # A second call of a module is marked by "@1".
    return paths[-1].split("@")[0] if paths else ""
