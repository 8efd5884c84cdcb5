"""From trials to a learning rate, a penalty and a number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dwf_optim.learning_rate import LR_WINDOW, BaseKind
from dwf_optim.recommend.schedule import UNTIL, mean_rate
from dwf_optim.recommend.trial import Trial, Trials

# How many times smaller the weights that are to go should become: removing them then changes little.
SMALLER = 10
# The rate advised has to work this many times as high too, half way to the next of the usual grid, and
# for this many times as long: rates near the edge train for a while and then diverge.
MARGIN, LONGER = 10**0.25, 2
# A penalty may slow learning by so much: at the end of a trial the loss is at most what it is after
# this part of a trial without penalty.
SLOWED = 0.75
# Penalties are tried by factors of this, and one rung below the highest that passes is advised: what
# a trial bears without harm costs accuracy in a whole run (docs/choosing.md: MNIST at 1e-3 and 3e-4).
RUNG = 10**0.5
MOST_RUNGS = 6
# Where the ladder begins: the decay of a trial (nats, by the law of SGD), or lambda itself for bases
# that follow no such law.
FIRST_DECAY, FIRST_PENALTY = 0.3, 1e-4
# Part of the law's speed with which weights at the rank are counted on to shrink at least.
LEAST_RESPONSE = 0.1


def usual_rates(kind: BaseKind, gain: float) -> list[float]:
    """Return the rates to try, two a decade, around the window in which training works.

    Args:
        kind: Of the base.
        gain: By how much momentum lengthens steps.
    """
    low, high = (edge / gain for edge in LR_WINDOW[kind])
    grid = [digit * 10.0**power for power in range(-7, 2) for digit in (1, 3)]
    return [float(f"{rate:.0e}") for rate in grid if 2 * low < rate < 2 * high]


def find_rate(trials: Trials, rates: Sequence[float], penalty: float, steps: int) -> tuple[float, str]:
    """Take the rate with the lowest loss, and a lower one as long as it does not last.

    Args:
        trials: Makes them.
        rates: To try.
        penalty: Of these trials, next to none.
        steps: Of a trial.

    Returns:
        The rate, and why.

    Raises:
        ValueError: If the loss falls at none of them.
    """
    tried: list[Trial] = []
    for rate in sorted(rates):
        tried.append(trials.run(rate, penalty, steps))
        if not math.isfinite(tried[-1].loss):
            break  # what is higher diverges too
    working = sorted((t for t in tried if not t.failed), key=lambda t: t.loss)
    shown = ", ".join(f"{t.lr:g}" for t in tried)
    if not working:
        raise ValueError(
            f"the loss fell in none of the trials of {steps} steps (lr {shown}): give other rates, "
            "longer trials, or look at model and loss"
        )
    best = working[0]
    lower = sorted((t.lr for t in working if t.lr <= best.lr), reverse=True)
    why = f"lowest loss after {steps} steps of {shown}"
    for number, rate in enumerate(lower):
        check = trials.run(MARGIN * rate, penalty, LONGER * steps)
        if (not check.failed and check.loss <= best.loss) or number == len(lower) - 1:
            if check.failed:
                why += f"; {MARGIN:.2g} times it failed, and nothing lower worked"
            return rate, why
        why = f"the highest of {shown} that also lasts: {rate:g}, lowest after {steps} steps, did not"
    raise AssertionError("unreachable: the last rate is always taken")


def find_penalty(trials: Trials, lr: float, first: float, steps: int) -> tuple[Trial, list[Trial]]:
    """Climb or descend a ladder of penalties to the highest that hardly slows learning.

    Args:
        trials: Makes them.
        lr: Of all of them.
        first: Penalty to begin with.
        steps: Of a trial.

    Returns:
        The trial without penalty, and those with one that slow learning little and, if any, the first
        that does so much, by penalty.
    """
    control = trials.run(lr, 0.0, steps)
    ladder = [trials.run(lr, first, steps)]
    up = not slows(ladder[0], control)
    while len(ladder) < MOST_RUNGS and slows(ladder[-1], control) != up:
        ladder.append(trials.run(lr, ladder[-1].penalty * (RUNG if up else 1 / RUNG), steps))
    return control, sorted(ladder, key=lambda t: t.penalty)


def slows(trial: Trial, control: Trial) -> bool:
    """Say whether a penalty slows learning by more than is allowed."""
    return not trial.loss <= control.loss_at(SLOWED)


def fall(trial: Trial, control: Trial, law: float | None) -> float:
    """Return how far (its logarithm) a penalty has taken the weight at the rank.

    Args:
        trial: With the penalty.
        control: Without.
        law: What it would be without gradient, where there is a law: it bounds what is measured.
    """
    measured = math.log(control.end / trial.end) if trial.end > 0 else math.inf
    if law is None:
        return measured
    return min(max(measured, LEAST_RESPONSE * law), law)


def plan(
    control: Trial, ladder: Sequence[Trial], falls: Sequence[float], steps: int | None
) -> tuple[float, int, list[str]]:
    r"""Choose penalty and steps so that the weight at the target's rank becomes ten times smaller.

    A penalty one rung below the highest that hardly slows learning takes the weight down by :math:`v`
    (its logarithm) per unit of rate, so that

    .. math:: \ln 10 = v \, u \, \bar{r} \, lr \, T

    with :math:`u` the part of the run by which the target is reached and :math:`\bar r` the mean
    of the schedule over it. This gives :math:`T`, or, where the steps are given, the speed that it
    takes, and the penalty in proportion.

    Args:
        control: Without penalty, at the rate of the run.
        ladder: With penalties, in their order.
        falls: Of the weight in these, from `fall`.
        steps: Of the run, where the user has chosen.

    Returns:
        Penalty, steps, and a reason for each.

    Raises:
        ValueError: If the steps are so few that the penalty would keep the network from learning.
    """
    harmless = [i for i, trial in enumerate(ladder) if not slows(trial, control)]
    index = harmless[-1] if harmless else 0
    highest, limit = ladder[index], ladder[index + 1] if index + 1 < len(ladder) else None
    penalty = highest.penalty / RUNG
    speed = falls[index] / RUNG / highest.travelled
    least = math.log(SMALLER) / (speed * control.lr * mean_rate() * UNTIL)
    found = round_up(least)
    why = f"a third of {highest.penalty:.2g}, " + (
        "the highest tried that hardly slows learning"
        if harmless
        else "the lowest tried, which slows it"
    )
    if steps is not None:
        penalty *= least / steps
        if limit is not None and penalty > limit.penalty:
            raise ValueError(
                f"{steps} steps are too few: to make the weights in question {SMALLER} times smaller "
                f"takes a penalty of {penalty:.2g}, and {limit.penalty:.2g} already keeps the network "
                f"from learning. Take {found} steps, a higher lr if there is one, or a lower target"
            )
        why = f"what {steps} steps take; for {found} it would be {highest.penalty / RUNG:.2g}, {why}"
    reasons = [
        why,
        f"at {highest.penalty:.2g} the weight at the target's rank shrinks {math.exp(falls[index]):.2g} "
        f"times in {highest.planned} steps, and has to shrink {SMALLER} times in {UNTIL:.0%} of the run",
    ]
    return penalty, found if steps is None else steps, reasons


def round_up(steps: float) -> int:
    """Round up to two digits."""
    unit = int(10.0 ** max(0, math.floor(math.log10(max(1.0, steps))) - 1))
    return max(10, math.ceil(steps / unit) * unit)
