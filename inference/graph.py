"""The layer graph: what `inference.capture` makes of a model, and all that the other parts read.

Values have names; every node reads some and makes one. Shapes are without the batch, which is the
first dimension of every value that layers other than `TorchOp` touch. Graphs are never changed: a pass
takes one and returns another.

To add a layer: a node class here, how torch computes it (`inference.interpret`), what it is captured
from (`inference.tracing.rules`); the native engine runs what it has a kernel for, torch the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shape = tuple[int, ...]
Pair = tuple[int, int]

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")


@dataclass(frozen=True)
class Activation:
    """An elementwise function.

    Attributes:
        kind: One of `ACTIVATIONS`; "gelu_tanh" is GELU by torch's tanh approximation.
        slope: Of "leaky_relu" below zero.

    Raises:
        ValueError: If the kind is unknown.
    """

    kind: str
    slope: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.kind!r}; use one of {ACTIVATIONS}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """What all layers have.

    Attributes:
        name: Path of the module in the model, or the traced name where there is none; unique.
        inputs: Names of the values that it reads.
        output: Name of the value that it makes.
    """

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """``y = W x + b`` on the last dimension.

    Attributes:
        weight: ``[out, in]``.
        bias: ``[out]``, or None.
        activation: What follows, fused.
    """

    weight: Tensor
    bias: Tensor | None = None
    activation: Activation | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2d(Node):
    """Cross-correlation over ``[channels, height, width]``.

    Attributes:
        weight: ``[out, in / groups, kernel height, kernel width]``.
        bias: ``[out]``, or a map ``[out, height, width]`` of the output's size (what constants leave
            behind next to a border of zeros), or None.
        stride: Rows, columns; ``padding`` (zeros on both sides) and ``dilation`` too.
        groups: Blocks of channels.
        activation: What follows, fused.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Node):
    """``scale * x + shift`` by channel (dimension 1): a BatchNorm that found no layer to fold into.

    Attributes:
        scale: ``[channels]``.
        shift: ``[channels]``.
        activation: What follows, fused.
    """

    scale: Tensor
    shift: Tensor
    activation: Activation | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm(Node):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` by channel (dimension 1).

    Only in graphs as they are traced: `inference.fuse.fuse` makes it an `Affine`, or part of a layer.

    Attributes:
        mean: ``[channels]``.
        var: ``[channels]``.
        weight: ``[channels]``, or None for ones.
        bias: ``[channels]``, or None for zeros.
        eps: What is added to the variance.
    """

    mean: Tensor
    var: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    eps: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Elementwise(Node):
    """An activation by itself."""

    activation: Activation


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2d(Node):
    """As `torch.nn.MaxPool2d`; all in rows, columns."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool2d(Node):
    """As `torch.nn.AvgPool2d`."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptiveAvgPool2d(Node):
    """As `torch.nn.AdaptiveAvgPool2d`.

    Attributes:
        size: Rows and columns of the output.
    """

    size: Pair


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape(Node):
    """The same elements in the same order, in another shape; the batch stays.

    Attributes:
        shape: Of the output, without the batch.
    """

    shape: Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """The sum of two values of one shape."""

    activation: Activation | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Node):
    """Values side by side.

    Attributes:
        dim: Along which dimension; the batch is 0.
    """

    dim: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax(Node):
    """Softmax.

    Attributes:
        dim: Along which dimension; the batch is 0.
    """

    dim: int


@dataclass(frozen=True)
class Ref:
    """A value among the arguments of a `TorchOp`."""

    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchOp(Node):
    """What the graph has no layer for: one operator of torch, run by torch.

    Attributes:
        target: The operator as ``"aten.layer_norm.default"``.
        args: Its arguments; `Ref` for values, tensors for constants, numbers, strings, None and lists.
        kwargs: Its arguments by name.
    """

    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers in the order in which they run.

    Attributes:
        inputs: Names of the values that are given.
        outputs: Names of those that are returned.
        nodes: The layers, each after those whose values it reads.
        shapes: Of every value, without the batch; None for what is not one tensor with the batch first.

    Raises:
        ValueError: If a node reads what is not made before it, or two make the same value.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape | None]

    def __post_init__(self) -> None:
        made = set(self.inputs)
        for node in self.nodes:
            if missing := [name for name in node.inputs if name not in made]:
                raise ValueError(f"node {node.name!r} reads {missing}, which no node before it makes")
            if node.output in made:
                raise ValueError(f"node {node.name!r} makes {node.output!r}, which is already there")
            made.add(node.output)
        if missing := [name for name in self.outputs if name not in made]:
            raise ValueError(f"the graph returns {missing}, which no node makes")
        if missing := sorted(made - self.shapes.keys()):
            raise ValueError(f"no shapes for {missing}")

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read a value."""
        return [node for node in self.nodes if value in node.inputs]

    def maker(self, value: str) -> Node | None:
        """Return the node that makes a value; None for an input."""
        return next((node for node in self.nodes if node.output == value), None)

    def layers(self) -> Iterator[Linear | Conv2d]:
        """Go through the layers that have weights to be sparse."""
        yield from (node for node in self.nodes if isinstance(node, Linear | Conv2d))

    def with_nodes(self, nodes: Sequence[Node], shapes: Mapping[str, Shape | None]) -> Graph:
        """Return the graph of other nodes between the same inputs and outputs.

        Args:
            nodes: In order.
            shapes: Of all values; those that are made no longer are dropped.
        """
        made = {*self.inputs, *(node.output for node in nodes)}
        kept = {name: shape for name, shape in shapes.items() if name in made}
        return Graph(self.inputs, self.outputs, tuple(nodes), kept)
