"""An exported program on its way to a graph: what is a value, what a constant, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from inference.graph import Node, Ref, Shape, TorchOp
from inference.operators import encode, operator_name

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


PLAIN, SWAPPED, JOINED = "plain", "swapped", "joined"
Arguments = dict[str, Any]


class Trace:
    """What is known of the nodes of an exported program that were seen so far.

    A traced node is a constant (known now) or a value (known at run time). Where the model puts tokens
    first, or joins batch and tokens, the value is kept batch first as long as possible: it is held in
    another layout than the model's.

    Attributes:
        batch: The symbol of the batch's size.
        constants: Tensors, numbers and lists by traced node.
        layouts: For each layout, names of values in the graph by traced node. In "plain" they are as
            in the model; what is "swapped" has the first two dimensions the other way round, and what
            is "joined" has two dimensions, batch and rows, where the model has one.
        nodes: The graph's nodes so far.
        shapes: Of all values, as in `inference.graph.Graph`.
    """

    def __init__(self, batch: Any, targets: Mapping[str, str], leaves: frozenset[str]) -> None:
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
        self.layouts: dict[str, dict[fx.Node, str]] = {PLAIN: {}, SWAPPED: {}, JOINED: {}}
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape | None] = {}
        self._used: set[str] = set()
        self._layout = PLAIN

    def constant(self, argument: object) -> Tensor | None:
        """Return the tensor that an argument is, if it is known now."""
        found = self.constants.get(argument) if isinstance(argument, fx.Node) else None
        return found if isinstance(found, Tensor) else None

    @contextmanager
    def looking(self, layout: str) -> Iterator[None]:
        """Let `value`, `shape` and `held` speak of values that are held in another layout."""
        was, self._layout = self._layout, layout
        yield
        self._layout = was

    @property
    def names(self) -> dict[fx.Node, str]:
        """Names of the values that are held as the model has them."""
        return self.layouts[PLAIN]

    @property
    def held(self) -> dict[fx.Node, str]:
        """Names of the values that are held in the layout that is looked at."""
        return self.layouts[self._layout]

    def value(self, argument: object) -> str | None:
        """Return the name of a floating-point value that has the batch first, as layers need it."""
        if not isinstance(argument, fx.Node) or self.shape(argument) is None:
            return None
        return self.held.get(argument)

    def shape(self, node: fx.Node) -> Shape | None:
        """Return a floating-point tensor's shape as held, without the batch; None if it has none."""
        found = node.meta.get("val")
        if not isinstance(found, Tensor) or found.dtype not in FLOAT_DTYPES or not found.dim():
            return None
        first, *rest = found.shape
        if self._layout == SWAPPED and rest:
            first, rest[0] = rest[0], first
        if self._layout == JOINED and isinstance(first, torch.SymInt):
            # So many examples' rows make up the first dimension.
            rows = first.node.expr / self.batch
            return (int(rows), *rest) if rows.is_Integer and _are_numbers(rest) else None
        if not isinstance(first, torch.SymInt) or first.node.expr != self.batch:
            return None
        return tuple(rest) if _are_numbers(rest) else None

    def add(self, node: Node, shape: Shape | None) -> str:
        """Append a node; returns the name of its value."""
        self.nodes.append(node)
        self.shapes[node.output] = shape
        return node.output

    def materialize(self, node: fx.Node) -> str:
        """Return the name of a value as the model has it, bringing it into that layout if need be."""
        if node not in self.names:
            layout = next(layout for layout, held in self.layouts.items() if node in held)
            held = self.layouts[layout][node]
            target = "aten.transpose.int" if layout == SWAPPED else "aten.flatten.using_ints"
            op = TorchOp(
                name=".".join(filter(None, (module_path(node), node.name, layout))),
                inputs=(held,),
                output=f"{node.name}.{layout}",
                target=target,
                args=(Ref(held), 0, 1),
            )
            self.names[node] = self.add(op, self.shape(node))
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


def _are_numbers(shape: Sequence[object]) -> bool:
    return all(isinstance(size, int) for size in shape)
