"""`shrink`: from a model with dead groups to a smaller one of the same classes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inference.capture import evaluating, trace
from inference.certificate import EXAMPLES, Certificate, random_batches
from inference.exact import without_fused_attention
from inference.shrinking.plan import Plan, find_kept_whole
from inference.shrinking.report import ShrinkReport, ShrunkWeight, Stuck
from inference.shrinking.trial import Trials, brief

log = logging.getLogger("inference")


class Shrunk(NamedTuple):
    """What `inference.shrink_with_report` returns.

    Attributes:
        model: The smaller model.
        report: What was done.
    """

    model: nn.Module
    report: ShrinkReport


def shrink(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    select_inputs: bool = False,
    inputs: Sequence[Sequence[Tensor]] = (),
    check: bool = True,
) -> nn.Module:
    """Copy a model without its dead filters, neurons, features and heads.

    The copy is a dense model of the same classes, with smaller Linear, Conv2d and BatchNorm modules in
    it: it can be trained, saved, exported and compiled as any other. In eval mode it computes the same:
    a unit that is constant (because all its weights are zero; what a BatchNorm and an activation make
    of that included) goes into the biases of what reads it, and one that nobody reads goes without a
    trace. What could not go is logged, and in the report of `inference.shrink_with_report`.

    Args:
        model: Any module that `torch.export` can trace, in any floating-point dtype, on any device;
            left as it is.
        example: Its positional arguments, tensors ``[batch, ...]``.
        select_inputs: Whether a Linear that does not read all features of the model's input becomes a
            `inference.shrinking.inputs.SelectedLinear`, which picks those that it reads; the model's
            inputs stay as they are.
        inputs: Further arguments, batch by batch, to compare both models on.
        check: Whether to compare them in float64 on the example, ``inputs`` and random numbers, and to
            try whether the copy runs in train mode. What makes it fail (a ``view`` of a fixed size in a
            forward, say) then keeps its size; without the check it fails when it is called.

    Returns:
        The copy, in the same mode and dtype, on the same device. Attention that lost heads is a
        `inference.shrinking.attention.FewerHeads`.

    Raises:
        TypeError: If the model is not a module with dense parameters, or the example not of tensors.
        ValueError: If the model cannot be captured for any batch size (the module at fault is named),
            cannot be copied, or does not run in float64.
    """
    small, report = shrink_with_report(
        model, example, select_inputs=select_inputs, inputs=inputs, check=check
    )
    for stuck in report.stuck:
        log.info("shrink: %s", stuck)
    return small


def shrink_with_report(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    *,
    select_inputs: bool = False,
    inputs: Sequence[Sequence[Tensor]] = (),
    check: bool = True,
) -> Shrunk:
    """Do as `inference.shrink`, and say what was done.

    Args:
        model: As of `inference.shrink`; the others too.
        example: As there.
        select_inputs: As there.
        inputs: As there.
        check: As there.

    Returns:
        The smaller model and the report.

    Raises:
        TypeError: As there.
        ValueError: As there.
    """
    model = getattr(model, "_orig_mod", model)  # Of torch.compile
    traced = trace(model, example)
    small = _copy(model)
    plan = Plan(model, traced.graph, select_inputs)
    given = [example] if isinstance(example, Tensor) else list(example)
    first = [(torch.cat((x, x)) if len(x) == 1 else x[:EXAMPLES]).detach() for x in given]
    trials = Trials(model, [first, *inputs, *random_batches(traced.graph, 0)]) if check else None
    kept = {} if trials is None else find_kept_whole(plan, trials)
    stuck = plan.apply_(small, kept)
    if trials is None:
        return Shrunk(small, _report(model, small, stuck))
    flops = (_flops(model, first), _flops(small, first))
    return Shrunk(small, _report(model, small, stuck, flops, trials.compare(small)))


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:  # torch copies only tensors that are no results.
        raise ValueError(
            f"the model cannot be copied: {brief(error)}. Pruning by torch.nn.utils.prune must be made "
            "permanent by its remove() first"
        ) from error


def _report(
    model: nn.Module,
    small: nn.Module,
    stuck: Sequence[Stuck],
    flops: tuple[int, int] | None = None,
    certificate: Certificate | None = None,
) -> ShrinkReport:
    after = dict(small.named_parameters())
    weights = tuple(
        ShrunkWeight(name, tuple(weight.shape), tuple(after[name].shape))
        for name, weight in model.named_parameters()
        if weight.dim() > 1
    )
    parameters = (_parameters(model), _parameters(small))
    return ShrinkReport(weights, tuple(stuck), parameters, flops, certificate)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _flops(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Count the operations on one example."""
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with without_fused_attention(), evaluating(model), counter:
        model(*(x[:1].to(device) for x in inputs))
    return counter.get_total_flops()
