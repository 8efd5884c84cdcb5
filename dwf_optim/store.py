"""Where the factors of each weight come from, and that they still agree with it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dwf_optim.factorization import Factorization
from dwf_optim.factors import match, product, zero_where
from dwf_optim.init import factorize, generator_for, redraw, spread
from dwf_optim.notify import warn
from dwf_optim.state import State, get_factors, has_factors, put_factors

# Elements compared at a time, so that they stay in cache.
BLOCK = 128 * 1024


class Member(NamedTuple):
    """A parameter's place in the optimizer.

    Attributes:
        p: The parameter.
        position: Among all parameters of all groups, from 0.
        name: The user's, or its position in words.
        sigma: What its weight was re-drawn at, so that the draw can be repeated; None if it was not.
    """

    p: Tensor
    position: int
    name: str
    sigma: float | None


class FactorStore:
    """Makes factors when they are first needed, and re-makes them when the weight was written since.

    The factors themselves live in the optimizer's state; this object only knows what the state cannot
    hold: who wrote a weight last.

    Args:
        seed: Of the random draws; each parameter has its own stream, by its position.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # (version, address) of each weight when we last wrote it; if they differ, another did since.
        self._written: dict[Tensor, tuple[int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Drop what is of this process: a copy or a resumed run compares every weight once."""
        return {"seed": self.seed, "_written": {}}

    def forget_writes(self, parameters: Iterable[Tensor] | None = None) -> None:
        """Compare these weights, or all, with their factors when they are next stepped."""
        for p in list(self._written) if parameters is None else parameters:
            self._written.pop(p, None)

    def note_write(self, p: Tensor) -> None:
        """Remember that the weight, as it now stands, is the product of its factors."""
        self._written[p] = (p._version, p.data_ptr())

    def redraw(self, members: Sequence[Member], factorization: Factorization) -> dict[int, float]:
        """Replace weights by a draw of their initialization; zeros stay zero.

        Args:
            members: The parameters, written in place.
            factorization: Their group's, with an initialization that re-draws.

        Returns:
            Sigma of each re-drawn parameter by position; an all-zero one has no scale and is left alone.

        Raises:
            ValueError: If one holds NaN or infinity; nothing is written then.
        """
        sigmas = {member.position: spread(member.p) for member in members}
        sigmas = {position: sigma for position, sigma in sigmas.items() if sigma > 0}
        for p, position, *_ in members:
            if position in sigmas:
                generator = generator_for(self.seed, position)
                redraw(p, factorization.init, factorization.depth, sigmas[position], generator)
        return sigmas

    def state_of(
        self,
        states: MutableMapping[Tensor, State],
        member: Member,
        factorization: Factorization,
    ) -> State:
        """Return a factorized parameter's state, in agreement with the weight as it now stands.

        Args:
            states: The optimizer's state; gains an entry if the parameter has none.
            member: The parameter.
            factorization: Its group's.

        Returns:
            The state itself, not a copy.
        """
        p = member.p
        state = states.get(p)
        if state is None or not has_factors(state):
            state = self._make(member, factorization)
            states[p] = state
        elif self._written.get(p) != (p._version, p.data_ptr()):
            _follow(p, state, factorization.depth)
            _take_over(p, state, factorization.depth)
        self.note_write(p)
        return state

    def _make(self, member: Member, factorization: Factorization) -> State:
        p, position, name, sigma = member
        sigma = sigma or spread(p)
        if sigma == 0 and p.numel() > 0:
            warn(
                f"{name} of shape {tuple(p.shape)} is all zero, which factors cannot leave by "
                "themselves: one factor starts at zero and the others do not, so that it trains",
            )
        state: State = {}
        generator = generator_for(self.seed, position)
        put_factors(state, factorize(p, factorization.init, factorization.depth, sigma, generator))
        return state


def _follow(p: Tensor, state: State, depth: int) -> None:
    """Bring factors and elementwise base state to the dtype and device that the weight calls for."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    held = get_factors(state, depth)[0]
    if held.dtype == dtype and held.device == p.device:
        return
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == p.shape and value.dtype == held.dtype:
            state[key] = value.to(device=p.device, dtype=dtype)


def _agrees(p: Tensor, factors: list[Tensor]) -> bool:
    """Whether a weight is the product of its factors, to the bit; compared in blocks."""
    if not all(tensor.is_contiguous() for tensor in (p, *factors)):
        return torch.equal(product(factors).to(p.dtype), p)
    flat = [tensor.view(-1).split(BLOCK) for tensor in (p, *factors)]
    return all(torch.equal(product(fs).to(p.dtype), w) for w, *fs in zip(*flat, strict=True))


def _take_over(p: Tensor, state: State, depth: int) -> None:
    """Re-factorize what was written to a weight from outside, keeping ratios, signs and base state.

    Where the outside wrote zero, factors and base state become zero too. A difference of up to D ulp is
    no write: factors represent a weight that they have not yet stepped to that precision only.
    """
    factors = get_factors(state, depth)
    if _agrees(p, factors):
        return
    held = product(factors).to(p.dtype)
    precision = torch.finfo(factors[0].dtype)
    margin = p.abs().mul_(depth * precision.eps).add_(depth * precision.tiny * precision.eps)
    # Written so that NaN, which compares false, counts as a change.
    same = torch.where(p == 0, held == 0, (held - p).abs() <= margin)
    changed = ~same
    if not bool(changed.any()):
        return
    for factor, value in zip(factors, match(factors, p), strict=True):
        factor.copy_(torch.where(changed, value, factor))
    zero_where(changed & (p == 0), list(state.values()))
