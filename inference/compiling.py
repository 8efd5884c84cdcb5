"""`compile`: from a torch model to one whose zero weights cost nothing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inference.agreement import certify_model
from inference.artifact.source import Source
from inference.calls import check_batch_sizes, check_threads
from inference.capture import prepare, trace
from inference.compact import compact
from inference.engine import SparseModel
from inference.measure import make_plan
from inference.origin import Origin, original_layers
from inference.plan import Plan
from inference.rounding import with_weight_dtype


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
            float32: it is the model's file that gets smaller. `SparseModel.inspect` says what rounding
            does to the outputs.
        check: Whether to run the model and what was made of it on up to 4 samples of the example and on
            random ones, and to raise where they differ by more than rounding explains.
        progress: Whether to show a bar while measuring.

    Returns:
        The compiled model; in float32, whatever the model's dtype.

    Raises:
        TypeError: If the model is not a module with dense parameters, or the example not of tensors.
        ValueError: If the model has no parameters or cannot be captured for any batch size (the module
            at fault is named), for an unknown plan, batch sizes or threads below 1, if weights are too
            large for ``weight_dtype``, or if the outputs are not the model's.
    """
    if not isinstance(plan, Plan) and plan not in ("measure", "static"):
        raise ValueError(f"plan must be 'measure', 'static' or a Plan, got {plan!r}")
    check_batch_sizes(batch_sizes)
    check_threads(threads)
    traced = trace(model, example)
    source = Source.of(model, traced, weight_dtype)
    captured = prepare(traced.graph)
    # What is rounded is compiled from what will be saved, so that loading makes the same of it.
    rounded = captured if weight_dtype == torch.float32 else source.prepare()
    graph = with_weight_dtype(compact(rounded), weight_dtype)
    inputs = [example] if isinstance(example, Tensor) else list(example)
    if isinstance(plan, str):
        plan = make_plan(plan, graph, inputs, batch_sizes, threads, progress)
    compiled = SparseModel(graph, plan, threads=threads, source=source.sharing(graph))
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
