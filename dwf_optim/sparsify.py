"""From nearly zero to exactly zero."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from dwf_optim.groups import factorizable
from dwf_optim.learning_rate import FLOAT32_EPS
from dwf_optim.notify import warn
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.protection import PerLayer, floors, protected
from dwf_optim.report import LayerReport, SparsityReport
from dwf_optim.sharding import cut, local, whole
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
    min_nonzero_per_unit: PerLayer = 0,
    min_density: PerLayer = 0.0,
    progress: bool = True,
) -> SparsityReport:
    """Set small weights to exactly zero, by one of three rules.

    Training ends with weights that are nearly zero and do nothing. The rules are: a fixed
    ``threshold``; a target ``sparsity``, global over all factorized tensors by magnitude; or a
    ``tolerance``, the largest sparsity (found by bisection over the magnitudes) at which ``evaluate``
    loses at most that much. With none of the three, the threshold is float32's eps, as in the paper.

    Args:
        model: The trained model; its weights change in place. If it is sharded, all ranks call this.
        optimizer: The optimizer it was trained with, as it is or in Accelerate's wrapper. Its factors
            and the base's state become zero too, so that training on keeps the zeros. Without one, the
            tensors are those that `param_groups` would factorize.
        threshold: Weights with ``|w| <= threshold`` become zero.
        sparsity: Fraction of zeros to reach, in [0, 1); exact to one weight.
        tolerance: Most that the metric may lose, >= 0.
        evaluate: ``evaluate(model) -> float``, higher is better. Required with ``tolerance``;
            otherwise only reported.
        min_nonzero_per_unit: Weights that every output unit (first dimension: neuron, filter) keeps at
            least, its largest, whatever the rule says. One number for all layers, or numbers by
            parameter name, as ``{"4.weight": 1}`` for a last layer; others then have 0.
        min_density: Fraction of its weights that a layer keeps at least, given likewise.
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
    weights = _weights(model, optimizer)
    tensors = list(weights.values())
    for name, weight in weights.items():
        if bool(whole(weight).isnan().any()):
            raise ValueError(
                f"{name} holds NaN: the training diverged, so there is nothing to sparsify; train with "
                "a smaller lr"
            )
    least = floors(weights, min_nonzero_per_unit, min_density)
    kept = [protected(whole(weight), least[name]) for name, weight in weights.items()]
    ranking = None if sparsity is None and tolerance is None else _Ranking(tensors, kept)
    count = 0 if ranking is None or sparsity is None else ranking.count_of(sparsity)
    before = None if evaluate is None else _score(evaluate, model)
    if ranking is not None:
        if tolerance is not None and evaluate is not None and before is not None:
            count = _bisect(model, tensors, ranking, evaluate, before - tolerance, progress)
        masks, limit = ranking.smallest(count)
    else:
        limit = FLOAT32_EPS if threshold is None else float(threshold)
        masks = [(whole(w).abs() <= limit) & ~keep for w, keep in zip(tensors, kept, strict=True)]
        if optimizer is not None and not any(bool(mask.any()) for mask in masks):
            _warn_if_hopeless(optimizer, limit)
    after = None
    if evaluate is not None:
        # Before anything is committed, because a user's function may fail.
        with _masked(tensors, masks):
            after = _score(evaluate, model)
    spared = [
        int((keep & (whole(w).abs() <= limit)).sum()) for w, keep in zip(tensors, kept, strict=True)
    ]
    for weight, mask in zip(tensors, masks, strict=True):
        if optimizer is None:
            local(weight).masked_fill_(cut(mask, weight), 0)
        else:
            optimizer.zero_(weight, mask)
    layers = tuple(
        LayerReport(name, tuple(w.shape), w.numel(), int(torch.count_nonzero(whole(w))), number)
        for (name, w), number in zip(weights.items(), spared, strict=True)
    )
    report = SparsityReport(layers, limit, before, after)
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


def _weights(model: nn.Module, optimizer: DWFOptimizer | None) -> dict[str, Tensor]:
    """Return the tensors to sparsify by name, each once, in the model's order."""
    if optimizer is None:
        weights = factorizable(model)
    else:
        held = set(optimizer.factorized())
        weights = {name: p for name, p in model.named_parameters() if p in held}
    if not weights:
        raise ValueError(
            "no factorized tensor found: the optimizer holds none of the model's weights with "
            "depth >= 2, or the model has no linear or convolution layer"
        )
    return weights


def _score(evaluate: Evaluate, model: nn.Module) -> float:
    value = float(evaluate(model))
    if math.isnan(value):
        raise ValueError(
            "evaluate returned NaN: the model has diverged, or the metric is undefined on this data"
        )
    return value


class _Ranking:
    """All weights in order of magnitude; ties by position, so that every count can be met.

    Args:
        tensors: The weights.
        kept: Masks of those that come last whatever their magnitude.
    """

    def __init__(self, tensors: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
        self.shapes = [tensor.shape for tensor in tensors]
        self.devices = [tensor.device for tensor in tensors]
        sizes = [
            whole(tensor.detach()).abs().masked_fill(keep, math.inf).flatten().cpu()
            for tensor, keep in zip(tensors, kept, strict=True)
        ]
        ordered, order = torch.cat(sizes).sort(stable=True)
        self.ordered = ordered
        self.ranks = torch.empty_like(order)
        self.ranks[order] = torch.arange(len(order))
        self.kept = sum(int(keep.sum()) for keep in kept)

    def zeros(self) -> int:
        """Count the weights that are zero already."""
        return int((self.ordered == 0).sum())

    def count_of(self, sparsity: float) -> int:
        """Return the number of zeros that a sparsity means.

        Raises:
            ValueError: If so many may not become zero.
        """
        total = len(self.ordered)
        count, most = math.ceil(sparsity * total - 1e-9), total - self.kept
        if count > most:
            raise ValueError(
                f"sparsity={sparsity} leaves {total - count} of {total} weights, and "
                f"min_nonzero_per_unit and min_density keep {self.kept}: ask for at most "
                f"{math.floor(1e6 * most / total) / 1e6}, or keep fewer"
            )
        return count

    def smallest(self, count: int) -> tuple[list[Tensor], float]:
        """Return masks of the ``count`` smallest weights, and the magnitude of the largest of them."""
        flat = (self.ranks < count).split([shape.numel() for shape in self.shapes])
        masks = [
            mask.view(shape).to(device)
            for mask, shape, device in zip(flat, self.shapes, self.devices, strict=True)
        ]
        return masks, float(self.ordered[count - 1]) if count else 0.0


def _bisect(
    model: nn.Module,
    tensors: Sequence[Tensor],
    ranking: _Ranking,
    evaluate: Evaluate,
    least: float,
    progress: bool,
) -> int:
    """Find the largest count of smallest weights without which the metric is at least ``least``.

    The metric need not fall monotonically; what is found is then one of its crossings, and the
    count returned was itself evaluated as good enough.
    """
    total = len(ranking.ordered)
    # Without weights to keep, no weight at all is taken for bad unseen.
    good, bad = ranking.zeros(), min(total, total - ranking.kept + 1)
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
            bar.set_postfix(zeros=f"{good / total:.2%}", metric=f"{value:.4g}")
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
