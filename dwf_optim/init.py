"""How a weight is split into factors at the start: the initializations by name.

An initialization draws *candidate* factors; `dwf_optim.factors.match` then rescales them so that
their product is the weight. Those that re-draw first set the weight to the drawn product (times its
scale sigma). Candidates are in units of ``sigma^{1/D}``, so that their product is in units of sigma.

To add one, write a function like `_truncated` and a line in `INITS`.

Source: algorithm 1 of Kolb et al., ICLR 2025; independent standard draws fail because the product's
variance is tiny and its kurtosis ``3^D``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dwf_optim.factors import match, product
from dwf_optim.learning_rate import REFERENCE_WEIGHT
from dwf_optim.sharding import cut, local, place

# The paper's eps, relative to sigma: it publishes no value, and an absolute one can exceed a layer's
# 2 sigma. 3e-3 at fan-in 784 (sigma 0.05) is 0.06.
RELATIVE_EPS = 0.06

Draw = Callable[[torch.Size, int, float, torch.Generator, torch.dtype], list[Tensor]]


@dataclass(frozen=True)
class Init:
    """One initialization.

    Attributes:
        draw: ``(shape, depth, sigma, generator, dtype) -> candidates`` on the CPU.
        redraws: Whether the model's weights are replaced by the drawn product.
    """

    draw: Draw
    redraws: bool


def truncation_bounds(sigma: float, depth: int, eps: float = RELATIVE_EPS) -> tuple[float, float]:
    r"""Return the bounds of ``|f| / sigma^{1/D}`` in algorithm 1.

    .. math:: \epsilon^{1/D} < |f| < \min(1, (2 \sigma)^{1/D})

    with the paper's :math:`\epsilon` being ``eps * sigma``.

    Args:
        sigma: Standard deviation of the layer's weights, > 0.
        depth: ``D``.
        eps: Lower bound of the product in units of sigma, >= 0.

    Returns:
        ``(low, high)`` with ``0 <= low <= high``. Where the paper's interval is empty (an eps above
        its upper end), both are the upper end.
    """
    high = min(sigma ** (-1 / depth), 2 ** (1 / depth))
    return min(eps ** (1 / depth), high), high


def _truncated(
    shape: torch.Size,
    depth: int,
    sigma: float,
    generator: torch.Generator,
    dtype: torch.dtype,
    eps: float = RELATIVE_EPS,
) -> list[Tensor]:
    """Draw truncated normals through the inverse CDF: one draw each, however narrow the interval."""
    low, high = truncation_bounds(sigma, depth, eps)
    cdf_low, cdf_high = math.erf(low / math.sqrt(2)), math.erf(high / math.sqrt(2))

    def draw() -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=dtype)
        quantile = uniform.mul_(cdf_high - cdf_low).add_(cdf_low)
        size = torch.erfinv(quantile).mul_(math.sqrt(2)).clamp_(low, high)
        sign = torch.randint(0, 2, shape, generator=generator, dtype=dtype).mul_(2).sub_(1)
        return size.mul_(sign)

    return [draw() for _ in range(depth)]


def _normal(
    shape: torch.Size, depth: int, sigma: float, generator: torch.Generator, dtype: torch.dtype
) -> list[Tensor]:
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(depth)]


def _equal(
    shape: torch.Size, depth: int, sigma: float, generator: torch.Generator, dtype: torch.dtype
) -> list[Tensor]:
    return [torch.ones(shape, dtype=dtype) for _ in range(depth)]


INITS: dict[str, Init] = {
    "preserve": Init(_truncated, redraws=False),
    "balanced": Init(_equal, redraws=False),
    "dwf": Init(_truncated, redraws=True),
    "varmatch": Init(_normal, redraws=True),
}


def generator_for(seed: int, *identity: int) -> torch.Generator:
    """Make the random generator of one parameter.

    Every rank of a distributed run makes the same one, and the user's own random stream is not
    touched.

    Args:
        seed: The optimizer's seed.
        *identity: What tells the parameter from others: its position, or its weight's `fingerprint`.

    Returns:
        A CPU generator.
    """
    # torch's CPU generator reads 32 bits of its seed, so the numbers are hashed into 32 bits.
    text = "/".join(map(str, (seed, *identity)))
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def fingerprint(weight: Tensor) -> tuple[int, ...] | None:
    """Return numbers by which a weight is known wherever it stands among others.

    Under ZeroRedundancyOptimizer a rank's optimizer sees its own parameters only, so positions are not
    those in one process. The numbers survive rounding, which depends on how a batch is spread.

    Args:
        weight: Any shape and floating dtype, not sharded.

    Returns:
        The shape, and where the smallest and the largest element are; None for an empty weight, one on
        the meta device, or one whose elements are all equal, which looks like others of its kind.
    """
    if weight.numel() == 0 or weight.is_meta or bool(weight.min() == weight.max()):
        return None
    return (*weight.shape, int(weight.argmin()), int(weight.argmax()))


def spread(weight: Tensor) -> float:
    """Return the layer's sigma: the standard deviation of its weights about zero.

    Every usual init has mean zero, so the root mean square is its sigma, and unlike the deviation
    from the mean it is zero for an all-zero tensor only.

    Args:
        weight: Any shape, not sharded; an empty one has spread 0.

    Returns:
        The root mean square, computed in float64; NaN if the weight holds NaN or infinity, or is on the
        meta device and holds nothing.
    """
    if weight.numel() == 0:
        return 0.0
    if weight.is_meta:
        return math.nan
    largest = float(weight.detach().abs().max())
    if largest == 0 or not math.isfinite(largest):
        return 0.0 if largest == 0 else math.nan
    # In units of the largest, because squares of float64 weights can leave float64's range.
    relative = weight.detach().double() / largest
    return largest * float(relative.square().mean().sqrt())


def common_spread(weights: Sequence[Tensor]) -> float:
    """Return the root mean square of several weights together.

    Args:
        weights: Of any shapes, not sharded. A 0-d tensor is no sample of a layer and does not count, nor
            does one that holds NaN or infinity.

    Returns:
        Their common root mean square; 0 if none counts.
    """
    spreads = [(weight.numel(), spread(weight)) for weight in weights if weight.ndim > 0]
    counted = [(count, sigma) for count, sigma in spreads if math.isfinite(sigma)]
    total = sum(count for count, _ in counted)
    if total == 0:
        return 0.0
    # Of norms rather than squares, which can leave the range of floats.
    return math.hypot(*(math.sqrt(count / total) * sigma for count, sigma in counted))


def redraw(weight: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator) -> None:
    """Replace a weight, in place, by ``sigma`` times the product of drawn candidates; zeros stay.

    Args:
        weight: The model's parameter.
        init: A name in `INITS` that re-draws.
        depth: ``D``.
        sigma: The scale to draw at.
        generator: From `generator_for`.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    candidates = INITS[init].draw(weight.shape, depth, sigma, generator, dtype)
    drawn = cut(product(candidates).mul_(sigma).to(weight.device), weight)
    part = local(weight)
    part.copy_(drawn.masked_fill(part == 0, 0))


def factorize(
    weight: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
) -> list[Tensor]:
    """Split a weight into factors whose product is the weight to 2 ulp of the factors' dtype.

    An all-zero tensor would never train (every factor gradient is zero), so there one factor is zero
    and the others are ``w_ref^{1/D}``; its product is still zero.

    Args:
        weight: The model's parameter, any floating dtype and layout.
        init: A name in `INITS`.
        depth: ``D >= 2``.
        sigma: The layer's sigma, 0 for an all-zero tensor. Not finite where the weight is not, or is on
            the meta device: the factors are then the weight and ones.
        generator: From `generator_for`.

    Returns:
        ``D`` tensors with the weight's shape, layout, shards and device, in float32 or wider.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    part = local(weight)
    factors = [torch.empty_like(part, dtype=dtype) for _ in range(depth)]
    if not math.isfinite(sigma):
        factors[0].copy_(part)
        for factor in factors[1:]:
            factor.fill_(1)
    elif sigma == 0:
        for factor in factors[:-1]:
            factor.fill_(REFERENCE_WEIGHT ** (1 / depth))
        factors[-1].zero_()
    else:
        # Drawn whole and then cut, so that shards together hold what one process would.
        candidates = INITS[init].draw(weight.shape, depth, sigma, generator, dtype)
        matched = match([cut(candidate.to(weight.device), weight) for candidate in candidates], part)
        for factor, value in zip(factors, matched, strict=True):
            factor.copy_(value)
    return [place(factor, weight) for factor in factors]
