"""Runs a whole graph with one choice of kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.graph import Graph, Node
from inference.plan import Choice
from inference.segments import Segment
from inference.steps import NativeStep, Step, TorchStep


class Runner:
    """A graph, ready to run: native calls and torch in turns, or torch alone.

    Several threads may run one runner at once: nothing in it changes.

    Attributes:
        graph: What it computes.
        steps: In order.
    """

    def __init__(
        self, graph: Graph, segments: Sequence[Segment], choice: Choice, instruction_set: str = ""
    ) -> None:
        """Packs the weights for the chosen kernels.

        Args:
            graph: The whole.
            segments: Its parts; none is native where there is no extension.
            choice: Which kernels; without the engine, torch runs the graph in one piece.
            instruction_set: Of the engine; the widest of this machine if empty.
        """
        self.graph = graph
        self.steps: list[Step]
        if not choice.native:
            self.steps = [TorchStep(Segment(graph, native=False), csr=False)]
        else:
            self.steps = [
                NativeStep(segment, choice.kernels, instruction_set)
                if segment.native
                else TorchStep(segment, csr=True)
                for segment in segments
            ]

    # Not in inference mode: callers may write to the outputs, or train on what they feed.
    @torch.no_grad()
    def run(self, inputs: Sequence[Tensor], threads: int) -> list[Tensor]:
        """Compute the outputs.

        Args:
            inputs: One tensor for each of the graph's inputs, on the CPU, of one batch size.
            threads: How many may work at once.

        Returns:
            One tensor for each of its outputs.
        """
        if torch.is_autocast_enabled("cpu"):
            # The graph computes in float32, whoever calls it.
            with torch.autocast("cpu", enabled=False):
                return self.run(inputs, threads)
        values = dict(zip(self.graph.inputs, inputs, strict=True))
        for step in self.steps:
            step.run(values, inputs[0].shape[0], threads)
        return [values[name] for name in self.graph.outputs]

    def direct(self) -> NativeStep | None:
        """Return the one native call that does it all from one input to one output, if it is so."""
        if len(self.steps) != 1 or len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            return None
        (step,) = self.steps
        return step if isinstance(step, NativeStep) and not step.segment.lead else None

    def kernel(self, node: Node) -> str:
        """Say how a layer is computed, in a word."""
        return self._step(node).kernel(node)

    def bytes(self, node: Node) -> int:
        """Say how much memory a layer's weights take."""
        return self._step(node).bytes(node)

    def alone(self, node: Node, values: Mapping[str, Any], threads: int) -> Callable[[], object]:
        """Make a call that computes one layer, as `inference.steps.Step.alone` does."""
        return self._step(node).alone(node, dict(values), threads)

    def _step(self, node: Node) -> Step:
        return next(step for step in self.steps if node in step.segment.graph.nodes)
