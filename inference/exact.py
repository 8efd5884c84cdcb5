"""Models in float64: what others are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inference.graph import Graph
from inference.interpret import run, to_dtype


def in_float64(model: nn.Module | Graph) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Return a model as a function that computes in float64, on the CPU and in eval mode.

    Args:
        model: A module, which is copied, or a graph.

    Returns:
        From one tensor ``[batch, ...]`` for each input, of any floating-point dtype, to one for each
        output.
    """
    if isinstance(model, Graph):
        graph = to_dtype(model, torch.float64)
        return lambda inputs: list(run(graph, _wide(inputs)))
    exact = copy.deepcopy(model).cpu().double().eval()

    def call(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            made = exact(*_wide(inputs))
        return [made] if isinstance(made, Tensor) else list(made)

    return call


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Keep torch from its one operator for a whole encoder layer, which leaves out what is masked."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _wide(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [x.double() if x.is_floating_point() else x for x in inputs]
