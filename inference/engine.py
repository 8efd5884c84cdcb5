"""`compile` and `SparseModel`: a model whose zero weights cost nothing."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference import native
from inference.agreement import Way, certify_model
from inference.calls import check_out, to_tensor, unlike
from inference.capture import capture
from inference.compact import compact
from inference.graph import Graph
from inference.measure import measured_plan
from inference.origin import Origin, original_layers
from inference.plan import Plan, static_plan
from inference.report import Report, make_report
from inference.rounding import round_weights, with_weight_dtype
from inference.runner import Runner
from inference.segments import cut
from inference.timing import with_times

_FLOAT32: dict[type, Any] = {np.ndarray: np.float32, Tensor: torch.float32}


def compile(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    batch_sizes: Sequence[int] = (1, 64),
    plan: str | Plan = "measure",
    threads: int = 1,
    weight_dtype: torch.dtype = torch.float32,
    check: bool = True,
    progress: bool = False,
) -> SparseModel:
    """Turn a torch model with zero weights into one that skips them, exactly and on the CPU.

    The model is captured by ``torch.export``, units that are dead are removed, and each layer gets the
    kernel that is fastest for its weights. What the engine has no kernel for runs in torch:
    `SparseModel.inspect` says what that is.

    Args:
        model: Any module that `torch.export` can trace; left as it is. Later changes to its weights do
            not reach what is returned.
        example: Its positional arguments, tensors ``[batch, ...]``.
        batch_sizes: For which to choose kernels; other sizes use the choice for the nearest.
        plan: "measure" takes the time of each kernel here and now (about a second for a large
            network), "static" chooses by the weights alone, the same on every machine; or the plan of
            another model made from the same weights.
        threads: How many work on one call, on different samples.
        weight_dtype: What weights of Linear and Conv2d layers are rounded to and kept in: float32,
            bfloat16 or float16. Sums are in float32 all the same, and the kernels hold the weights in
            float32: it is the model's file that gets smaller. `inspect` says what rounding does to the
            outputs.
        check: Whether to run the model and what was made of it on up to 4 samples of the example and on
            random ones, and to raise where they differ by more than rounding explains.
        progress: Whether to show a bar while measuring.

    Returns:
        The compiled model; in float32, whatever the model's dtype.

    Raises:
        TypeError: If the model is not a module with dense parameters, or the example not of tensors.
        ValueError: If the model has no parameters or cannot be captured for any batch size (the module
            at fault is named), for an unknown plan, if weights are too large for ``weight_dtype``, or if
            the outputs are not the model's.
    """
    captured = capture(model, example)
    rounded = round_weights(captured, weight_dtype)
    graph = with_weight_dtype(compact(rounded), weight_dtype)
    inputs = [example] if isinstance(example, Tensor) else list(example)
    if plan == "measure":
        segments = cut(graph, native.takes)
        if native.is_built() and any(segment.native for segment in segments):
            given = [tensor.detach().cpu() for tensor in inputs]
            made = [t.float() if t.is_floating_point() else t for t in given]
            plan = measured_plan(segments, graph, made, batch_sizes, threads, progress)
        else:
            plan = "static"
    if plan == "static":
        plan = static_plan(batch_sizes)
    if not isinstance(plan, Plan):
        raise ValueError(f"plan must be 'measure', 'static' or a Plan, got {plan!r}")
    compiled = SparseModel(graph, plan, threads=threads)
    seen: tuple[Any, Any] = (None, None)
    if check:
        seen = certify_model(model, captured, rounded, inputs, compiled.ways())
    compiled.origin = Origin(
        original_layers(captured), seen[0], seen[1] if rounded is not captured else None
    )
    if not any(choice.native for choice in plan.choices.values()):
        zeros = compiled.sparsity
        warnings.warn(
            f"nothing to gain: with {zeros:.0%} of its weights zero the model is fastest in torch as "
            "it is, at all of the batch sizes; train for more zeros (dwf_optim.sparsify shows how many)",
            stacklevel=2,
        )
    return compiled


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

    Example:
        >>> model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))
        >>> sparse = compile(prune(model), torch.zeros(1, 784))
        >>> sparse(np.zeros((64, 784), np.float32)).shape
        (64, 10)
    """

    def __init__(
        self, graph: Graph, plan: Plan, *, threads: int = 1, origin: Origin | None = None
    ) -> None:
        """Packs the weights.

        Args:
            graph: From `inference.capture.capture`, compact or not.
            plan: For that graph.
            threads: How many work on one call, at least 1.
            origin: For reports.

        Raises:
            ValueError: If the plan names an unknown kernel, or ``threads`` is below 1.
        """
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.graph, self.plan, self.threads, self.origin = graph, plan, threads, origin
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
        self._shapes = [graph.shapes[name] for name in graph.inputs]
        # Integers, which look up embeddings, are read by torch alone.
        self._in_float32 = {
            name for segment in segments if segment.native for name in segment.graph.inputs
        }
        self._out_shape = graph.shapes[graph.outputs[0]] or ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.graph, self.plan, self.threads, self.origin)

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
            # The short way: one call, whose arguments the extension checks.
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
        except (TypeError, ValueError):  # dtype or layout, which the long way mends or explains
            return None
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
        return with_times(report, self.graph, self._runners, self.threads, inputs, dense)

    def __repr__(self) -> str:
        return f"SparseModel({self.inspect().summary()})"


def _rebuild(graph: Graph, plan: Plan, threads: int, origin: Origin | None) -> SparseModel:
    return SparseModel(graph, plan, threads=threads, origin=origin)
