"""How one penalty is shared out among layers whose weights are of different size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from dwf_optim.init import spread
from dwf_optim.sharding import whole

# The size of a layer's weights, up to a factor common to all layers. To add a scaling, add its line.
SIZES: dict[str, Callable[[Tensor], float]] = {
    "equal": lambda weight: 1.0,
    # Of any init that keeps the variance of what passes through: 1 / sqrt(summands of an output).
    "fan_in": lambda weight: (weight.numel() / weight.shape[0]) ** -0.5 if weight.numel() else 1.0,
    "sigma": lambda weight: spread(whole(weight)),
}


def scaled_penalties(
    weights: Mapping[str, Tensor], penalty: float, depth: int, scaling: str
) -> dict[str, float]:
    r"""Give every layer its penalty, so that it acts alike on weights relative to their layer's size.

    In units of its layer's size, :math:`w = s_l u`, a weight's penalty is
    :math:`\lambda_l s_l^{2/D} |u|^{2/D}`. It is the same function of :math:`u` in every layer for

    .. math:: \lambda_l = c \, s_l^{-2/D}

    with c such that the mean over all weights is ``penalty``.

    Args:
        weights: By name, in any shapes.
        penalty: ``lambda``, the mean.
        depth: ``D``.
        scaling: "equal": :math:`s_l = 1`. "fan_in": one over the root of the number of weights that an
            output sums up, counted as the weight's elements over its first dimension. "sigma": the root
            mean square of the weights as they now are.

    Returns:
        Name to ``lambda``.

    Raises:
        ValueError: If the scaling is unknown, or a layer has no size (all its weights are 0, or not
            finite, or on the meta device).

    Source: derived here. For weights drawn with variance 1 / fan_in both scalings are one.
    """
    if scaling not in SIZES:
        raise ValueError(f"unknown penalty_scaling {scaling!r}; use one of {tuple(SIZES)}")
    if scaling == "equal":
        return dict.fromkeys(weights, penalty)
    sizes = {name: SIZES[scaling](weight) for name, weight in weights.items()}
    for name, size in sizes.items():
        if not 0 < size < math.inf:
            raise ValueError(
                f"penalty_scaling={scaling!r} needs the size of {name}, which is {size}: its weights "
                "are all 0, not finite or not there yet; use 'fan_in', or exclude it"
            )
    shares = {name: size ** (-2 / depth) for name, size in sizes.items()}
    counts = {name: weight.numel() for name, weight in weights.items()}
    mean = sum(shares[name] * count for name, count in counts.items()) / max(1, sum(counts.values()))
    return {name: penalty * share / mean for name, share in shares.items()}
