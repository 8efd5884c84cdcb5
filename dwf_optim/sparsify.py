"""From nearly zero to exactly zero."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from dwf_optim.factorization import factorized
from dwf_optim.flops import flops_by_layer
from dwf_optim.groups import factorizable
from dwf_optim.learning_rate import FLOAT32_EPS
from dwf_optim.notify import warn
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.protection import floors, protected
from dwf_optim.ranking import Ranking, at_most, whole_groups
from dwf_optim.report import LayerReport, SparsityReport
from dwf_optim.sharding import cut, local, whole
from dwf_optim.storage import STORAGES, Storage
from dwf_optim.unwrap import unwrap

logger = logging.getLogger(__name__)

Evaluate = Callable[[nn.Module], float]


@torch.no_grad()
def sparsify(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    threshold: float | None = None,
    sparsity: float | None = None,
    tolerance: float | None = None,
    evaluate: Evaluate | None = None,
    min_nonzero_per_unit: int | Mapping[str, int] = 0,
    min_density: float | Mapping[str, float] = 0.0,
    example: Any = None,
    progress: bool = True,
) -> SparsityReport:
    r"""Set small weights to exactly zero, by one of three rules.

    Training ends with weights that are nearly zero and do nothing. The rules are: a fixed
    ``threshold``; a target ``sparsity``, global over all factorized tensors by magnitude; or a
    ``tolerance``, the largest sparsity (found by bisection over the magnitudes) at which ``evaluate``
    loses at most that much. With none of the three, the threshold is float32's eps, as in the paper.
    Where weights share gates (``structure=`` of the optimizer), whole groups become zero, by their norm
    :math:`\|w_j\|_2` in place of a weight's magnitude.

    Args:
        model: The trained model; its weights change in place. If it is sharded, all ranks call this.
        optimizer: The optimizer it was trained with, as it is or in Accelerate's wrapper. Its factors
            and the base's state become zero too, so that training on keeps the zeros. Without one, the
            tensors are those that `param_groups` would factorize.
        threshold: Weights with ``|w| <= threshold`` become zero.
        sparsity: Fraction of zeros to reach, in [0, 1); exact to one weight, or group.
        tolerance: Most that the metric may lose, >= 0.
        evaluate: ``evaluate(model) -> float``, higher is better. Required with ``tolerance``;
            otherwise only reported.
        min_nonzero_per_unit: Weights that every output unit (first dimension: neuron, filter) keeps at
            least, its largest, whatever the rule says. One number for all layers, or numbers by
            parameter name, as ``{"4.weight": 1}`` for a last layer; others then have 0.
        min_density: Fraction of its weights that a layer keeps at least, given likewise. Groups that
            have a weight to keep are kept whole.
        example: Optional input of the model, or a tuple of its inputs: the report then has the
            operations of linear and convolution layers before, and without the groups that are zero.
        progress: Whether the bisection shows a progress bar.

    Returns:
        A report; ``str(report)`` is a table. It says how many weights the last two have kept.

    Raises:
        TypeError: If ``optimizer`` is not a `DWFOptimizer`.
        ValueError: If more than one rule is given, a number is out of range, ``evaluate`` is missing
            or returns NaN, nothing is factorized, or ``sparsity`` asks for weights that are to be kept.
            The weights are then as they were.
    """
    _check(threshold, sparsity, tolerance, evaluate)
    if optimizer is not None:
        way_out = "; without factors to clear, pass none"
        optimizer = unwrap(optimizer, "a DWFOptimizer or None", way_out)
    held = _held(model, optimizer)
    weights = {name: weight for name, (weight, _) in held.items()}
    tensors, modes = list(weights.values()), [mode for _, mode in held.values()]
    for name, weight in weights.items():
        if bool(whole(weight).isnan().any()):
            raise ValueError(
                f"{name} holds NaN: the training diverged, so there is nothing to sparsify; train with "
                "a smaller lr"
            )
    least = floors(weights, min_nonzero_per_unit, min_density)
    kept = [
        whole_groups(protected(whole(weight), least[name]), mode)
        for name, (weight, mode) in held.items()
    ]
    ranking = None if sparsity is None and tolerance is None else Ranking(tensors, modes, kept)
    count = 0 if ranking is None or sparsity is None else ranking.count_of(sparsity)
    before = None if evaluate is None else _score(evaluate, model)
    if ranking is not None:
        if tolerance is not None and evaluate is not None and before is not None:
            count = _bisect(model, tensors, ranking, evaluate, before - tolerance, progress)
        masks, limit = ranking.smallest(count)
    else:
        limit = FLOAT32_EPS if threshold is None else float(threshold)
        small = [at_most(limit, weight, mode) for weight, mode in held.values()]
        masks = [mask & ~keep for mask, keep in zip(small, kept, strict=True)]
        if optimizer is not None and not any(bool(mask.any()) for mask in masks):
            _warn_if_hopeless(optimizer, limit)
    # Both before anything is committed, because the user's function or example may fail.
    flops = {} if example is None else flops_by_layer(model, example)
    after = None
    if evaluate is not None:
        with _masked(tensors, masks):
            after = _score(evaluate, model)
    spared = [
        int((keep & at_most(limit, *pair)).sum()) for pair, keep in zip(held.values(), kept, strict=True)
    ]
    for weight, mask in zip(tensors, masks, strict=True):
        if optimizer is None:
            local(weight).masked_fill_(cut(mask, weight), 0)
        else:
            optimizer.zero_(weight, mask)
    layers = tuple(
        _layer(name, weight, mode, number, flops.get(name.rpartition(".")[0]))
        for (name, (weight, mode)), number in zip(held.items(), spared, strict=True)
    )
    total = None if example is None else sum(flops.values())
    report = SparsityReport(layers, limit, before, after, total)
    logger.info("sparsify: %d of %d weights left", report.nonzero, report.total)
    return report


def _check(
    threshold: float | None,
    sparsity: float | None,
    tolerance: float | None,
    evaluate: Evaluate | None,
) -> None:
    rules = {"threshold": threshold, "sparsity": sparsity, "tolerance": tolerance}
    given = {name: value for name, value in rules.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"give one of threshold, sparsity and tolerance, got {given}")
    if threshold is not None and not (threshold >= 0 and math.isfinite(threshold)):
        raise ValueError(f"threshold must be finite and >= 0, got {threshold}")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise ValueError(
            f"sparsity is the fraction of zeros, at least 0 and below 1, got {sparsity}; 98 % is 0.98"
        )
    if tolerance is not None and not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ValueError(f"tolerance must be finite and >= 0, got {tolerance}")
    if tolerance is not None and evaluate is None:
        raise ValueError("tolerance needs evaluate, a function of the model that returns a metric")


def _held(model: nn.Module, optimizer: DWFOptimizer | None) -> dict[str, tuple[Tensor, Storage]]:
    """Return the tensors to sparsify by name, each once, in the model's order, and how they are kept."""
    if optimizer is None:
        chosen = {name: (p, STORAGES["full"]) for name, p in factorizable(model).items()}
    else:
        held = dict(factorized(optimizer.param_groups))
        chosen = {name: (p, held[p].mode) for name, p in model.named_parameters() if p in held}
    if not chosen:
        raise ValueError(
            "no factorized tensor found: the optimizer holds none of the model's weights with "
            "depth >= 2, or the model has no linear or convolution layer"
        )
    return chosen


def _layer(name: str, p: Tensor, mode: Storage, spared: int, flops: int | None) -> LayerReport:
    weight = whole(p.detach())
    nonzero = int(torch.count_nonzero(weight))
    report = LayerReport(name, tuple(p.shape), p.numel(), nonzero, spared, flops=flops)
    if mode.by_element:
        return report
    sizes = mode.sizes(weight)
    return replace(report, groups=sizes.numel(), groups_alive=int(torch.count_nonzero(sizes)))


def _score(evaluate: Evaluate, model: nn.Module) -> float:
    value = float(evaluate(model))
    if math.isnan(value):
        raise ValueError(
            "evaluate returned NaN: the model has diverged, or the metric is undefined on this data"
        )
    return value


def _bisect(
    model: nn.Module,
    tensors: Sequence[Tensor],
    ranking: Ranking,
    evaluate: Evaluate,
    least: float,
    progress: bool,
) -> int:
    """Find the largest count of smallest ones without which the metric is at least ``least``.

    The metric need not fall monotonically; what is found is then one of its crossings, and the
    count returned was itself evaluated as good enough.
    """
    total = ranking.weights(len(ranking))
    # Without weights to keep, no weight at all is taken for bad unseen.
    good, bad = ranking.zeros(), min(len(ranking), len(ranking) - ranking.kept + 1)
    with tqdm(
        total=max(1, bad - good).bit_length(), desc="sparsify", unit="eval", disable=not progress
    ) as bar:
        while bad - good > 1:
            count = (good + bad) // 2
            masks, _ = ranking.smallest(count)
            with _masked(tensors, masks):
                value = _score(evaluate, model)
            if value >= least:
                good = count
            else:
                bad = count
            bar.set_postfix(zeros=f"{ranking.weights(good) / total:.2%}", metric=f"{value:.4g}")
            bar.update()
    return good


@contextmanager
def _masked(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> Iterator[None]:
    """Zero the masked weights for a while; they come back whatever happens."""
    originals = [local(tensor).clone() for tensor in tensors]
    try:
        for tensor, mask in zip(tensors, masks, strict=True):
            local(tensor).masked_fill_(cut(mask, tensor), 0)
        yield
    finally:
        for tensor, original in zip(tensors, originals, strict=True):
            local(tensor).copy_(original)


def _warn_if_hopeless(optimizer: DWFOptimizer, threshold: float) -> None:
    budgets = optimizer.decay_budgets(threshold)
    if budgets and not any(budget.reachable for budget in budgets):
        best = max(budgets, key=lambda budget: budget.available)
        warn(
            f"no weight is at or below the threshold {threshold:.3g}, and none could be: "
            f"{best.advice()}; or sparsify by a target sparsity or a tolerance",
        )
