"""How far apart two graphs are that should compute the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from inference.graph import Graph
from inference.interpret import run, to_dtype

EXAMPLES = 8


class Certificate(NamedTuple):
    """What was seen when two ways to compute the same were run on the same inputs.

    Attributes:
        max_difference: The largest absolute difference of any output.
        scale: The largest absolute output of the first.
        batches: How many batches of inputs were compared.
        normwise: The largest ``|difference| / |output|`` (2-norms) of any output of any batch.
    """

    max_difference: float
    scale: float
    batches: int
    normwise: float

    @property
    def relative(self) -> float:
        """The difference as a share of the scale; 0 if there is none."""
        return self.max_difference / self.scale if self.max_difference else 0.0

    def __str__(self) -> str:
        return (
            f"differ by {self.max_difference:.1e} at most where outputs go up to {self.scale:.1e}, "
            f"by {self.normwise:.1e} of the norm ({self.batches} batches)"
        )


class Comparison:
    """Outputs compared so far.

    Attributes:
        certificate: What was seen in them.
    """

    def __init__(self) -> None:
        self.certificate = Certificate(0.0, 0.0, 0, 0.0)

    def add(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Compare the outputs of one batch.

        Args:
            first: One tensor for each output.
            second: Those of the other.

        Raises:
            ValueError: If they differ in number or shape.
        """
        difference, scale, batches, normwise = self.certificate
        for x, y in zip(first, second, strict=True):
            if x.shape != y.shape:
                raise ValueError(f"outputs have shapes {[*x.shape]} and {[*y.shape]}")
            if x.numel():
                apart, size = _apart(x, y), x.double().abs().nan_to_num(0, 0)
                difference = max(difference, float(apart.max()))
                scale = max(scale, float(size.max()))
                if norm := float(apart.norm()):
                    normwise = max(normwise, norm / float(size.norm()) if size.any() else math.inf)
        self.certificate = Certificate(difference, scale, batches + 1, normwise)


def certify(
    before: Graph, after: Graph, inputs: Sequence[Sequence[Tensor]] | None = None, *, seed: int = 0
) -> Certificate:
    """Compare two graphs on random inputs and given ones.

    Both run in float64, so what remains is how constants were rounded, not how sums were.

    Args:
        before: The first graph.
        after: The second, with the same inputs and outputs.
        inputs: Batches to compare on as well, each a tensor ``[batch, ...]`` for every input of the
            graphs.
        seed: Of the random batches: standard normal, ten times that, uniform in [0, 1), and zeros, of 8
            examples each. There are none if an input is not a floating-point tensor of known shape.

    Returns:
        What was seen. A NaN in one graph only counts as an infinite difference.

    Raises:
        ValueError: If the graphs' inputs or outputs differ in number or shape, or there is nothing to
            compare on.
    """
    if len(before.inputs) != len(after.inputs) or len(before.outputs) != len(after.outputs):
        raise ValueError("the graphs differ in the number of their inputs or outputs")
    batches = [*random_batches(before, seed), *(inputs or ())]
    if not batches:
        raise ValueError("random inputs cannot be drawn for this graph; pass inputs")
    before, after = to_dtype(before, torch.float64), to_dtype(after, torch.float64)
    comparison = Comparison()
    for batch in batches:
        xs = [x.double() if x.is_floating_point() else x for x in batch]
        comparison.add(run(before, xs), run(after, xs))
    return comparison.certificate


def random_batches(graph: Graph, seed: int) -> Iterator[list[Tensor]]:
    """Draw inputs for a graph.

    Args:
        graph: None are drawn if an input of it is not a floating-point tensor of known shape.
        seed: Of the numbers.

    Returns:
        Batches in float64: standard normal, ten times that, uniform in [0, 1), and zeros.
    """
    shapes = [shape for name in graph.inputs if (shape := graph.shapes[name]) is not None]
    if len(shapes) < len(graph.inputs):
        return
    generator = torch.Generator().manual_seed(seed)
    for factor in (1, 10):
        yield [
            factor * torch.randn(EXAMPLES, *s, generator=generator, dtype=torch.float64) for s in shapes
        ]
    yield [torch.rand(EXAMPLES, *s, generator=generator, dtype=torch.float64) for s in shapes]
    yield [torch.zeros(EXAMPLES, *s, dtype=torch.float64) for s in shapes]


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """Return the differences in float64; what is equal, NaN and inf included, has none."""
    first, second = first.double(), second.double()
    same = (first == second) | (first.isnan() & second.isnan())
    return (first - second).abs().where(~same, 0).nan_to_num(torch.inf, torch.inf)
