"""Runs a smaller model beside the one that it was made from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from inference.certificate import Certificate, Comparison
from inference.exact import in_float64, without_fused_attention

# Of the largest output, in float64: what the order of sums explains, and far below any real difference.
TOLERANCE = 1e-9
# Below this, outputs are taken for sums that cancel.
SMALLEST = 1e-3

Batch = Sequence[Tensor]
Change = Callable[[nn.Module], object]


class Trials:
    """A model's outputs, to compare others with."""

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        """Run the model.

        Args:
            model: Left as it is.
            batches: Inputs; those that the model does not take are left out, but the first.

        Raises:
            ValueError: If the model cannot run on the first batch in float64, on the CPU.
        """
        self.model = copy.deepcopy(model).cpu().double()
        self.runs: list[tuple[Batch, list[Tensor]]] = []
        run = _runner(self.model)
        for k, batch in enumerate(batches):
            try:
                self.runs.append((batch, run(batch)))
            except Exception as error:  # Anything may go wrong in a model's own code.
                if k == 0:
                    raise ValueError(
                        f"the model does not run in float64, so that nothing can be compared with it: "
                        f"{brief(error)}; check=False leaves comparisons out"
                    ) from error
        self.trains = not _train(self.model, self.runs[0][0])

    def problem(self, change: Change) -> str:
        """Say what is wrong with a smaller model; "" if nothing is.

        Args:
            change: Makes a model of the same class smaller, in place.
        """
        small = copy.deepcopy(self.model)
        change(small)
        try:
            seen = self.compare(small)
        except Exception as error:  # A view of a fixed size, for instance.
            return f"forward would fail: {brief(error)}"
        if not seen.max_difference <= TOLERANCE * max(seen.scale, SMALLEST):
            return f"outputs would differ by {seen.max_difference:.1e} of {seen.scale:.1e}"
        if self.trains and (problem := _train(small, self.runs[0][0])):
            return f"forward would fail in training: {problem}"
        return ""

    def compare(self, small: nn.Module) -> Certificate:
        """Compare a model's outputs in float64.

        Args:
            small: In any dtype.

        Raises:
            ValueError: If outputs have other shapes.
        """
        comparison, run = Comparison(), _runner(small)
        for batch, expected in self.runs:
            comparison.add(expected, run(batch))
        return comparison.certificate


def brief(error: Exception) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _runner(model: nn.Module) -> Callable[[Batch], list[Tensor]]:
    exact = in_float64(model)

    def run(batch: Batch) -> list[Tensor]:
        with without_fused_attention():
            # Others may jump by a rounding error, as the index of the largest does.
            return [y for y in exact([x.detach().cpu() for x in batch]) if y.is_floating_point()]

    return run


def _train(model: nn.Module, batch: Batch) -> str:
    """Call a copy of a model in train mode; returns the error that it raises, or ""."""
    trained = copy.deepcopy(model).train()
    wide = [x.detach().cpu().double() if x.is_floating_point() else x.detach().cpu() for x in batch]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            trained(*wide)
    except Exception as error:  # As in eval mode.
        return brief(error)
    return ""
