"""`recommend`: a short range test that finds learning rate, penalty and number of steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dwf_optim.budget import lr_scale_of
from dwf_optim.learning_rate import momentum_gain
from dwf_optim.optimizer import DWFOptimizer
from dwf_optim.ranking import zeros_at
from dwf_optim.recommend import law
from dwf_optim.recommend.advice import Recommendation
from dwf_optim.recommend.batches import Batches
from dwf_optim.recommend.restore import restored
from dwf_optim.recommend.trial import Trial, Trials, factorized_sizes

# lambda of the trials that are about the rate: next to none.
FAINT = 1e-9


def recommend(
    model: nn.Module,
    loader: Iterable[Any],
    loss_fn: Callable[[Any, Any], Tensor] | None,
    *,
    depth: int = 3,
    target: float = 0.95,
    base: type[Optimizer] = torch.optim.SGD,
    params: Iterable[Any] | None = None,
    steps: int | None = None,
    rates: Sequence[float] | None = None,
    trial_steps: int = 60,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
    **options: Any,
) -> Recommendation:
    """Find learning rate, penalty and number of steps for a model by a short range test.

    Trials of a few dozen steps each, all from the model as it is: over learning rates, then at the best
    over penalties. Some hundred steps altogether. Afterwards parameters, buffers, gradients and modes of
    the model and all random streams are what they were, to the bit; an optimizer or average that
    holds the parameters does not notice.

    Args:
        model: On any device. Trials put it into training mode, unless it is in it already.
        loader: Gives ``(inputs, targets)`` batches, which are moved to the model's device. It is started
            again when it runs out, where it can be.
        loss_fn: Called as ``loss_fn(model(inputs), targets)``; returns a scalar. None with ``forward``.
        depth: ``D``, at least 2.
        target: Fraction of zeros over all weights that have factors, in (0, 1).
        base: Class of the base optimizer.
        params: What is trained, as for `~dwf_optim.DWFOptimizer`; groups may have options and penalties
            of their own, of which the ratio is kept. By default the model's parameters.
        steps: Of the run, if that is given; None to find it too.
        rates: Learning rates to try; by default two a decade around the window in which training works.
        trial_steps: Steps of a trial, at least 20. More where the loss falls slowly.
        forward: For other batches: called as ``forward(model, batch)``; returns the scalar loss.
        **options: Further ones of `~dwf_optim.DWFOptimizer` and ``base``; momentum is 0.9 for SGD if not
            given.

    Returns:
        The advice. ``DWFOptimizer(model.parameters(), **advice.options)`` and
        ``advice.scheduler(optimizer)`` are the run; ``print(advice.report())`` says why.

    Raises:
        TypeError: If the loss is no scalar tensor, or an option is one of those to be found.
        ValueError: If the target leaves no weight, nothing can become sparse, the loader runs out, the
            loss falls at no rate, or ``steps`` are too few for the target.

    Example:
        >>> advice = recommend(model, loader, torch.nn.functional.cross_entropy, target=0.95)
        >>> print(advice.report())
        >>> optimizer = DWFOptimizer(model.parameters(), **advice.options)
        >>> scheduler = advice.scheduler(optimizer)
    """
    _check(depth, target, steps, trial_steps, options)
    if forward is None:
        if loss_fn is None:
            raise TypeError("give loss_fn, or forward for batches that are no (inputs, targets)")
        forward = _pairs(loss_fn)
    if issubclass(base, torch.optim.SGD):
        options = {"momentum": 0.9, **options}
    options = {**options, "base": base, "depth": depth}
    held = _materialized(model.parameters() if params is None else params)

    def make(lr: float) -> DWFOptimizer:
        return DWFOptimizer(held, lr=lr, penalty=FAINT, **options)

    tensors = [t for entry in held for t in _tensors(entry)]
    with restored(model, tensors, loader) as snapshot, warnings.catch_warnings():
        # Trials look for the edge of the window, and are many.
        warnings.filterwarnings("ignore", message="lr outside the usable window|init='balanced'")
        probe = make(1.0)
        rank = _rank(target, sum(factorized_sizes(probe)))
        scale = _law_scale(probe)
        trials = Trials(make, model, forward, Batches(loader), snapshot, rank)
        gain = momentum_gain(probe.param_groups[0])
        tried = list(rates) if rates is not None else law.usual_rates(probe.kind, gain)
        lr, why = law.find_rate(trials, tried, FAINT, trial_steps)
        screened = tuple(trials.done)
        travel = screened[[t.lr for t in screened].index(lr)].travelled
        sgd = probe.kind == "sgd"
        first = law.FIRST_DECAY / (2 * scale * travel) if sgd else law.FIRST_PENALTY
        control, ladder = law.find_penalty(trials, lr, first, trial_steps)

    def fall(trial: Trial) -> float:
        return law.fall(trial, control, 2 * trial.penalty * scale * trial.travelled if sgd else None)

    penalty, found, (why_penalty, why_steps) = law.plan(
        control, ladder, [fall(trial) for trial in ladder], steps
    )
    return Recommendation(
        lr=lr,
        penalty=penalty,
        steps=found,
        target=target,
        reasons={"lr": why, "penalty": why_penalty, "steps": why_steps},
        curves={"lr": screened, "penalty": (control, *ladder)},
        options={"lr": lr, "penalty": penalty, **options},
    )


def _check(depth: int, target: float, steps: int | None, trial: int, options: dict[str, Any]) -> None:
    if found := sorted({"lr", "penalty"} & options.keys()):
        raise TypeError(
            f"recommend finds {' and '.join(found)}: leave out, or build the optimizer with it"
        )
    if depth < 2:
        raise ValueError(f"depth {depth} makes no zeros: it has to be at least 2, and 3 is the default")
    if not 0 < target < 1:
        raise ValueError(f"target is the fraction of zeros, between 0 and 1, got {target}; 98 % is 0.98")
    if steps is not None and steps < 10:
        raise ValueError(f"steps must be at least 10, got {steps}")
    if trial < 20:
        raise ValueError(f"trial_steps must be at least 20, got {trial}")


def _pairs(loss_fn: Callable[[Any, Any], Tensor]) -> Callable[[nn.Module, Any], Tensor]:
    """Make what takes a model and an ``(inputs, targets)`` batch."""

    def forward(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise TypeError(
                f"a batch must be (inputs, targets), got {type(batch).__name__}; for other batches give "
                "forward=lambda model, batch: ... that returns the loss"
            )
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        inputs, targets = (x.to(device) if isinstance(x, Tensor) else x for x in batch)
        return loss_fn(model(inputs), targets)

    return forward


def _materialized(params: Iterable[Any]) -> list[Any]:
    """Return parameters or groups so that many optimizers can be built of them."""
    entries = []
    for entry in params:
        if isinstance(entry, dict):
            if "lr" in entry:
                raise ValueError(
                    f"a group has an lr of its own, {entry['lr']}, and recommend finds one for all: "
                    "leave it out"
                )
            within = entry["params"]
            entry = {**entry, "params": [within] if isinstance(within, Tensor) else list(within)}
        entries.append(entry)
    return entries


def _tensors(entry: Any) -> list[Tensor]:
    """Return the tensors of a parameter, a named parameter, or a group."""
    members = entry["params"] if isinstance(entry, dict) else [entry]
    return [member[1] if isinstance(member, tuple) else member for member in members]


def _rank(target: float, total: int) -> int:
    """Return the rank of the largest weight that has to become zero.

    Raises:
        ValueError: If there is none, or none would stay.
    """
    if total == 0:
        raise ValueError(
            "no tensor is factorized, so none becomes sparse: the model, or params, need weights of 2 "
            "dimensions or more in groups of depth 2 or more"
        )
    rank = zeros_at(target, total)
    if rank >= total:
        raise ValueError(
            f"target {target} leaves none of {total} weights: at most {1 - 1 / total:.7g} leaves one"
        )
    return rank


def _law_scale(optimizer: DWFOptimizer) -> float:
    """Return what turns summed rates into the law's: scale and momentum, mean over groups by size."""
    sizes, total = factorized_sizes(optimizer), 0.0
    for group, size in zip(optimizer.param_groups, sizes, strict=True):
        if size:
            total += size * lr_scale_of(group, optimizer.kind) * momentum_gain(group)
    return total / sum(sizes)
