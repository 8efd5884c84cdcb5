"""What a way to keep factors has to say: `Storage`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dwf_optim.base import Engine
from dwf_optim.state import Part, State


class Storage(ABC):
    """One way to keep the factors of a weight in the optimizer's state.

    Tensors are this process's parts (`dwf_optim.sharding.local`), except in `make` and `factors`.

    Attributes:
        name: In the registry.
        default_init: Initialization where none is asked for.
        any_init: Whether another may be asked for.
        all_zero: What becomes of a tensor that is all zero at the start.
    """

    name: ClassVar[str]
    default_init: ClassVar[str]
    any_init: ClassVar[bool]
    all_zero: ClassVar[str]

    # ------------------------------------------------------------------ what it takes

    def check_base(self, engine: Engine) -> None:  # noqa: B027  (most need nothing)
        """Refuse a base under which this way would compute something else.

        Raises:
            ValueError: With the reason and the way out.
        """

    def check_dtype(self, dtype: torch.dtype) -> None:  # noqa: B027
        """Refuse weights of a dtype that cannot be kept this way.

        Raises:
            TypeError: With the way out.
        """

    # ------------------------------------------------------------------ in the state

    @abstractmethod
    def keys(self, depth: int) -> list[str]:
        """Return the keys under which a weight's state has what is kept."""

    @abstractmethod
    def parts(self, depth: int) -> Sequence[Part]:
        """Name what the base steps, as in the keys of its state."""

    def kept(self, state: State, depth: int) -> list[Tensor]:
        """Return what a weight's state keeps; the tensors themselves."""
        return [state[key] for key in self.keys(depth)]

    def is_in(self, state: State | None, depth: int) -> bool:
        """Say whether a weight's state has been made."""
        return state is not None and all(key in state for key in self.keys(depth))

    @abstractmethod
    def make(
        self, p: Tensor, init: str, depth: int, sigma: float, generator: torch.Generator
    ) -> list[Tensor]:
        """Return what is kept of a parameter at the start, as `dwf_optim.init.factorize`."""

    # ------------------------------------------------------------------ and the weight

    @abstractmethod
    def factors(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        """Return the ``D`` factors; those that are kept themselves, others as new tensors."""

    @abstractmethod
    def product(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> Tensor:
        """Return what the weight is by what is kept, in its dtype."""

    @abstractmethod
    def match(self, kept: Sequence[Tensor], weight: Tensor, depth: int) -> list[Tensor]:
        """Return what is to be kept of a weight that was written from outside; new tensors."""

    # ------------------------------------------------------------------ in a step

    def stepped(
        self, kept: Sequence[Tensor], weight: Tensor, depth: int, states: Sequence[State]
    ) -> list[Tensor]:
        """Return what the base steps, in place; one tensor a part."""
        return list(kept)

    @abstractmethod
    def gradients(
        self,
        stepped: Sequence[Tensor],
        weight: Tensor,
        grad: Tensor,
        penalty: float,
        depth: int,
        out: Sequence[Tensor] | None,
    ) -> list[Tensor]:
        """Return the gradients of what the base steps, as `dwf_optim.factors.factor_gradients`."""

    @abstractmethod
    def finish(
        self,
        stepped: Sequence[Tensor],
        weight: Tensor,
        depth: int,
        states: Sequence[State],
        flush: bool,
        scratch: Tensor | None = None,
    ) -> None:
        """Write the weight after the base's step, and clear what is dead if asked to.

        ``scratch`` is a tensor like those stepped, to compute in.
        """
