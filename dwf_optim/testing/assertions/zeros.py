"""A zero weight stays zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dwf_optim.testing.counterexample import fail


def assert_zero_is_absorbing(
    step: Callable[[], object],
    weights: Callable[[], Sequence[Tensor]] | Sequence[Tensor],
    *,
    steps: int = 10,
) -> None:
    r"""Assert that training steps leave every weight that is zero at exactly zero, as they move others.

    A weight whose factors are all zero has the gradient
    :math:`g \prod_{e \ne d} 0 + \tfrac{2\lambda}{D} 0 = 0` in every factor, so a zero is a fixed point,
    to the bit: there is no bound.

    Args:
        step: Takes one training step of your model and optimizer.
        weights: The weights to watch, or a function that returns them, for weights that are computed
            (``lambda: [layer.weight]`` of a parametrized layer).
        steps: How many are taken.

    Raises:
        AssertionError: Naming the first step after which a zero has come back, and where.
        ValueError: If there is no zero at the start, or no other weight moves: nothing would be tested.
    """

    def now() -> list[Tensor]:
        current = weights() if callable(weights) else weights
        return [weight.detach().clone() for weight in current]

    start = now()
    masks = [weight == 0 for weight in start]
    if not any(bool(mask.any()) for mask in masks):
        raise ValueError("no weight is zero at the start, so that none can come back: set some to zero")
    for taken in range(1, steps + 1):
        step()
        for number, (weight, mask) in enumerate(zip(now(), masks, strict=True)):
            back = mask & (weight != 0)
            if bool(back.any()):
                fail(
                    f"a zero weight has come back after {taken} step{'s' if taken > 1 else ''}",
                    {
                        "tensor": number,
                        "at indices": back.nonzero()[:8].tolist(),
                        "now": weight[back][:8],
                    },
                    {"before": start[number], "after": weight},
                )
    if all(torch.equal(weight, before) for weight, before in zip(now(), start, strict=True)):
        raise ValueError(f"no weight has moved in {steps} steps: give step one that trains")
