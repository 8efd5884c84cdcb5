"""`SparseModel`: a model whose zero weights cost nothing."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference import native
from inference.agreement import Way
from inference.artifact.save import save
from inference.artifact.source import Source
from inference.calls import check_out, check_threads, to_tensor, unlike
from inference.files import FilePath
from inference.graph import Graph
from inference.origin import Origin
from inference.plan import Plan
from inference.report import Report, make_report
from inference.runner import Runner
from inference.segments import cut
from inference.timing import with_times

_FLOAT32: dict[type, Any] = {np.ndarray: np.float32, Tensor: torch.float32}


class SparseModel:
    """Computes what the dense model computes, without its zero weights.

    A call takes and returns NumPy arrays or tensors, batch first. Several threads may call one model.
    A weight of zero is not multiplied at all, so a NaN or infinity in the input reaches only the
    outputs that it has a weight to; in all else the outputs are torch's within rounding.

    Attributes:
        graph: What it computes.
        plan: Which kernels do it.
        threads: How many work on one call.
        origin: What `compile` noted about the model before, and how far this one is from it; None if
            it was made otherwise.
        source: The model before anything was folded or removed, with its weights encoded; None if it was
            made otherwise.

    Example:
        >>> model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
        >>> sparse = compile(prune(model), torch.zeros(1, 784))
        >>> sparse(np.zeros((64, 784), np.float32)).shape
        (64, 10)
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        *,
        threads: int = 1,
        origin: Origin | None = None,
        source: Source | None = None,
    ) -> None:
        """Packs the weights.

        Args:
            graph: From `inference.capture.capture`, compact or not.
            plan: For that graph.
            threads: How many work on one call, at least 1.
            origin: For reports.
            source: What the graph was made from; without it the model cannot be saved.

        Raises:
            ValueError: If the plan names an unknown kernel, or ``threads`` is no integer of at least 1.
        """
        check_threads(threads)
        self.graph, self.plan, self.threads = graph, plan, threads
        self.origin, self.source = origin, source
        if not native.is_built():
            native.say_that_it_is_missing()
        segments = cut(graph, native.takes)
        # Choices that agree share their packed weights.
        runners: list[tuple[Any, Runner]] = []
        self._runners: dict[int, Runner] = {}
        for size, choice in plan.choices.items():
            runner = next((made for same, made in runners if same == choice), None)
            if runner is None:
                runner = Runner(graph, segments, choice)
                runners.append((choice, runner))
            self._runners[size] = runner
        self._by_batch: dict[int, tuple[Runner, Any]] = {}
        # Of the last call: the kind of its arrays, their shapes, what makes another output, and the
        # program's method. One object, so that threads see all of it or none.
        self._last: tuple[type, Any, tuple[int, ...], Any, Any] | None = None
        self._shapes = [graph.shapes[name] for name in graph.inputs]
        # Integers, as look up embeddings, have a shape in the source alone.
        self._in_float32 = {name for name in graph.inputs if graph.shapes[name] is not None}
        if source is not None:
            self._shapes = [spec.shape for spec in source.inputs]
        self._out_shape = graph.shapes[graph.outputs[0]] or ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.graph, self.plan, self.threads, self.origin, self.source)

    def __call__(
        self, *inputs: np.ndarray[Any, Any] | Tensor, out: np.ndarray[Any, Any] | Tensor | None = None
    ) -> Any:
        """Compute the outputs of a batch.

        Args:
            *inputs: One array or CPU tensor ``[batch, ...]`` for each input of the model, all of one
                kind; float32 where the model takes floating-point numbers. What is not contiguous is
                copied first.
            out: Where to put the output, contiguous and of its shape, of the inputs' kind; for models
                with one output. A model that is one native call then allocates nothing.

        Returns:
            ``out``, or a new array or tensor ``[batch, ...]`` like the inputs; a tuple where the model
            returns several.

        Raises:
            TypeError: If an input is of another kind or dtype.
            ValueError: If it has another shape, or is not on the CPU.
        """
        if len(inputs) == 1:
            # The short way: one call, whose arguments the extension checks. Shortest for arrays like
            # those of the last call: where the model takes microseconds, each look at one counts.
            x, last = inputs[0], self._last
            if last is not None and type(x) is last[0] and x.shape == last[1]:
                made = last[3]() if out is None else out
                if type(made) is last[0] and made.shape == last[2]:
                    try:
                        last[4](x, made, self.threads)
                        return made
                    except (TypeError, ValueError):  # dtype or layout: the long way mends or explains
                        pass
            done = self._call_program(inputs[0], out)
            if done is not None:
                return done
        return self._call(inputs, out)

    def _call_program(self, x: Any, out: Any) -> Any:
        """Run the model as one native call, or return None if it is none, or the call is faulty."""
        kind = type(x)
        if kind is np.ndarray:
            empty: Any = np.empty
        elif kind is Tensor:
            empty = torch.empty
        else:
            return None
        shape = x.shape
        if not shape or shape[1:] != self._shapes[0]:
            return None
        program = (self._by_batch.get(shape[0]) or self._choose(shape[0]))[1]
        if program is None:
            return None
        wanted = (shape[0], *self._out_shape)
        if out is None:
            out = empty(wanted, dtype=_FLOAT32[kind])
        elif type(out) is not kind or out.shape != wanted:
            return None
        try:
            program.run(x, out, self.threads)
        except (TypeError, ValueError):  # as above
            return None
        make = functools.partial(empty, wanted, dtype=_FLOAT32[kind])
        self._last = (kind, shape, wanted, make, program.run)
        return out

    def _choose(self, batch: int) -> tuple[Runner, Any]:
        runner = self._runners[self.plan.nearest(batch)]
        step = runner.direct()
        found = (runner, None if step is None else step.program)
        if len(self._by_batch) < 1024:  # a server with odd batch sizes must not grow for ever
            self._by_batch[batch] = found
        return found

    def _call(self, inputs: Sequence[Any], out: Any) -> Any:
        if len(inputs) != len(self.graph.inputs):
            raise ValueError(f"the model takes {len(self.graph.inputs)} inputs, got {len(inputs)}")
        tensors = [
            to_tensor(x, shape, name, name in self._in_float32)
            for x, shape, name in zip(inputs, self._shapes, self.graph.inputs, strict=True)
        ]
        batches = {tensor.shape[0] for tensor in tensors}
        if len(batches) > 1:
            raise ValueError(f"inputs have batches of {sorted(batches)}; they must be of one size")
        (batch,) = batches
        if out is not None:
            check_out(out, inputs[0], (batch, *self._out_shape), len(self.graph.outputs))
        runner, _ = self._by_batch.get(batch) or self._choose(batch)
        results = runner.run(tensors, self.threads)
        if out is not None:
            to_tensor(out, None, "out").copy_(results[0])
            return out
        made = tuple(unlike(result, inputs[0]) for result in results)
        return made[0] if len(made) == 1 else made

    def ways(self) -> list[Way]:
        """Return what computes the outputs for one batch size or another, as functions of tensors."""
        return [
            functools.partial(runner.run, threads=self.threads)
            for runner in dict.fromkeys(self._runners.values())
        ]

    @property
    def sparsity(self) -> float:
        """Fraction of the weights of Linear and Conv2d layers that are zero."""
        return self.inspect().sparsity

    def save(self, path: FilePath) -> None:
        """Save the model in one small file, which `inference.load` loads.

        The file is in safetensors' format. It holds the weights as they were before anything was
        folded or removed, in the model's dtype or in ``weight_dtype``, and those with many zeros as CSR;
        the graph; the plan, so that loading does not measure again; and what made it. It appears whole
        or not at all.

        Args:
            path: The file; its name is used as it is.

        Raises:
            OSError: If it cannot be written.
            TypeError: If a parameter or buffer is of a dtype that no file holds, as complex numbers.
            ValueError: If the model calls operators of other packages than torch, or was not made by
                `compile` or `load`.
        """
        save(path, self._known_source(), self.plan, self.origin)

    def to_dense(self, model: nn.Module | None = None) -> dict[str, Tensor]:
        """Return the dense weights from which the model was made, as to train on.

        Args:
            model: Where to copy them as well, if anywhere: a module with the parameters and buffers of
                the one that was compiled.

        Returns:
            Parameters and buffers by name, as its state_dict has them, on the CPU, in their shapes and
            dtypes; bit for bit, but that -0.0 may come back as +0.0. Weights that were rounded to a
            ``weight_dtype`` come back in that. The tensors are the caller's own.

        Raises:
            ValueError: If the model given has others (it is left as it is), or this one was not made by
                `compile` or `load`.
        """
        state = self._known_source().state()
        if model is not None:
            before = copy.deepcopy(model.state_dict())
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                model.load_state_dict(before)  # torch has written what fits
                raise ValueError(f"the model is not the one that was compiled: {error}") from error
        return state

    def _known_source(self) -> Source:
        if self.source is None:
            raise ValueError(
                "the model was made from a graph; only those of compile and load have weights"
            )
        return self.source

    def inspect(
        self,
        *,
        timing: bool = False,
        example: Tensor | Sequence[Tensor] | None = None,
        dense: nn.Module | None = None,
    ) -> Report:
        """Say how each layer is computed, how sparse it is, and what runs in torch.

        Args:
            timing: Whether to measure layers and the whole, about a second a batch size.
            example: Of the inputs, for that; random numbers if None.
            dense: The model before, to compare the whole with; if None, what is left of it without the
                dead units, computed densely.

        Returns:
            The report, for each of the plan's batch sizes.

        Raises:
            ValueError: If the times of a model of integer inputs are asked for without an example.
        """
        report = make_report(self.graph, self._runners, self.origin)
        if not timing:
            return report
        inputs = [example] if isinstance(example, Tensor) else example
        return with_times(report, self.graph, self._runners, self, self.threads, inputs, dense)

    def __repr__(self) -> str:
        return f"SparseModel({self.inspect().summary()})"


def _rebuild(
    graph: Graph, plan: Plan, threads: int, origin: Origin | None, source: Source | None
) -> SparseModel:
    return SparseModel(graph, plan, threads=threads, origin=origin, source=source)
