"""Where the factors of each weight come from, and that they still agree with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor

from dwf_optim.factorization import Factorization
from dwf_optim.factors import zero_where
from dwf_optim.init import INITS, fingerprint, generator_for, redraw, spread
from dwf_optim.members import Member
from dwf_optim.notify import warn
from dwf_optim.outside_writes import Writes, follow, seems_unwritten, take_over, writes
from dwf_optim.sharding import cut, local, local_state, whole
from dwf_optim.state import REDRAWN, State, elementwise


class FactorStore:
    """Makes factors when they are first needed, and re-makes them when the weight was written since.

    The factors themselves live in the optimizer's state; this object only knows what the state cannot
    hold: who wrote a weight last.

    Args:
        seed: Of the random draws; each parameter has its own stream.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # Sigma that a weight was re-drawn at, so that the first step can repeat the draw.
        self._redrawn: dict[Tensor, float] = {}
        # What `writes` said of each weight and of its factors when we last wrote them.
        self._written: dict[Tensor, tuple[Writes, list[Writes]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Drop what is of this process: a copy or a resumed run compares every weight once."""
        return {"seed": self.seed, "_redrawn": self._redrawn, "_written": {}}

    def forget_writes(self) -> None:
        """Compare every weight with its factors when it is next stepped."""
        self._written.clear()

    def note_write(self, p: Tensor, kept: Sequence[Tensor]) -> None:
        """Remember that the weight, as it now stands, is the product of these factors."""
        self._written[p] = writes(p), [writes(tensor) for tensor in kept]

    def factors_edited(self, p: Tensor, kept: Sequence[Tensor]) -> bool:
        """Say whether somebody else has written these factors, who then wants them stepped."""
        _, by_factors = self._written.get(p, (None, None))
        return by_factors is not None and by_factors != [writes(tensor) for tensor in kept]

    def redraw(self, members: Sequence[Member], factorization: Factorization) -> None:
        """Replace weights by a draw of their initialization; zeros stay zero.

        Args:
            members: The parameters, written in place; an all-zero one has no scale and is left alone.
            factorization: Their group's, with an initialization that re-draws.

        Raises:
            ValueError: If one holds NaN or infinity, or nothing (meta device); nothing is written then.
        """
        sigmas = {member.p: spread(whole(member.p)) for member in members}
        for p, _, name in members:
            if math.isnan(sigmas[p]):
                raise ValueError(
                    f"{name} of shape {tuple(p.shape)} holds NaN or infinity, or is on the meta device, "
                    f"and cannot be drawn anew (init={factorization.init!r}): initialize the model first"
                )
        for p, position, _ in members:
            if sigmas[p] > 0:
                generator = generator_for(self.seed, position)
                redraw(p, factorization.init, factorization.depth, sigmas[p], generator)
                self._redrawn[p] = sigmas[p]

    def waiting(self, states: Mapping[Tensor, State]) -> dict[Tensor, State]:
        """Return what a checkpoint has to hold of re-drawn parameters that no step has reached.

        Args:
            states: The optimizer's state.
        """
        return {p: {REDRAWN: sigma} for p, sigma in self._redrawn.items() if p not in states}

    def take_waiting(self, states: MutableMapping[Tensor, State]) -> None:
        """Undo `waiting` with the state of a loaded checkpoint, which keeps the rest."""
        self._redrawn = {p: state.pop(REDRAWN) for p, state in states.items() if REDRAWN in state}
        for p in self._redrawn:
            if not states[p]:
                del states[p]

    def state_of(
        self,
        states: MutableMapping[Tensor, State],
        member: Member,
        factorization: Factorization,
        step: int | None = None,
    ) -> State:
        """Return a factorized parameter's state, in agreement with the weight as it now stands.

        Args:
            states: The optimizer's state; gains an entry if the parameter has none.
            member: The parameter.
            factorization: Its group's.
            step: Number of the step, by which a part of the weight is compared if nothing tells of a
                write. None compares all of it.

        Returns:
            The state itself, not a copy.
        """
        p, depth, mode = member.p, factorization.depth, factorization.mode
        state = states.get(p)
        if state is None or not mode.is_in(state, depth):
            states[p] = state = self._make(member, factorization)
        elif not mode.keys(depth):
            # The weight itself says it all, whoever wrote it.
            mode.check_dtype(p.dtype)
            follow(p, state, mode, depth)
            return state
        elif self._is_ours(p, mode.kept(state, depth), factorization, step):
            return state
        else:
            follow(p, state, mode, depth)
            take_over(p, state, mode, depth)
        self.note_write(p, mode.kept(state, depth))
        return state

    def zero_(
        self,
        states: MutableMapping[Tensor, State],
        member: Member,
        factorization: Factorization,
        mask: Tensor,
    ) -> None:
        """Set masked elements of a parameter, of its factors and of the base's state to zero.

        Args:
            states: The optimizer's state; gains an entry for a factorized parameter that has none.
            member: The parameter.
            factorization: Its group's.
            mask: Boolean, of its shape.

        Raises:
            ValueError: If the mask would leave a part of a group that shares gates.
        """
        p = member.p
        if not factorization.factorizes(p.ndim):
            mask = cut(mask, p)
            local(p).masked_fill_(mask, 0)
            zero_where(mask, elementwise(local_state(states.get(p, {}))))
            return
        mode, depth = factorization.mode, factorization.depth
        mode.check_mask(p, mask)
        state = self.state_of(states, member, factorization)
        mask, parts = cut(mask, p), local_state(state)
        local(p).masked_fill_(mask, 0)
        mode.zero_(mode.kept(parts, depth), parts, local(p), mask)
        self.note_write(p, mode.kept(state, depth))

    def _is_ours(
        self, p: Tensor, kept: Sequence[Tensor], factorization: Factorization, step: int | None
    ) -> bool:
        """Say whether nobody has written the weight since we did, as far as can be told cheaply."""
        if p.is_meta:
            return True  # nothing can be written
        by_weight, by_factors = self._written.get(p, (None, None))
        if by_weight != writes(p):
            return False
        # Who has edited the factors instead wants them stepped, not set back.
        return by_factors != [writes(tensor) for tensor in kept] or seems_unwritten(
            p, kept, factorization.mode, factorization.depth, step
        )

    def _make(self, member: Member, factorization: Factorization) -> State:
        p, position, name = member
        weight = whole(p)
        sigma = spread(weight)
        if math.isnan(sigma) and not p.is_meta:
            # As with any torch optimizer, it does not stop the others.
            warn(
                f"{name} of shape {tuple(p.shape)} holds NaN or infinity, and so will its factors: "
                "initialize the model, or load a sound checkpoint, before the first step",
            )
        elif sigma == 0 and p.numel() > 0 and factorization.mode.all_zero:
            warn(f"{name} of shape {tuple(p.shape)} is all zero, {factorization.mode.all_zero}")
        elif p in self._redrawn:
            sigma = self._redrawn[p]
        # A re-drawn weight repeats its draw, which was by position; others are known by their values.
        known_by = None if INITS[factorization.init].redraws else fingerprint(weight)
        generator = generator_for(self.seed, *(known_by or (position,)))
        mode, depth = factorization.mode, factorization.depth
        kept = mode.make(p, factorization.init, depth, sigma, generator)
        self._redrawn.pop(p, None)
        return dict(zip(mode.keys(depth), kept, strict=True))
