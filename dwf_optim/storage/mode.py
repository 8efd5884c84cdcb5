"""What a way to keep factors has to say: `Storage`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from dwf_optim.base import Engine
from dwf_optim.convert import check_convertible, convert_state
from dwf_optim.factors import zero_where
from dwf_optim.learning_rate import BaseKind, auto_lr_scale
from dwf_optim.state import Part, State, elementwise


class Storage(ABC):
    """One way to keep the factors of a weight in the optimizer's state.

    Tensors are this process's parts (`dwf_optim.sharding.local`), except in `make`, `factors` and
    `check_mask`.

    Attributes:
        name: In the registry.
        default_init: Initialization where none is asked for.
        one_init: Why no other may be asked for; None if any may.
        all_zero: What becomes of a tensor that is all zero at the start; None if it trains as any.
        by_element: Whether each element of a weight can be stepped without the others.
    """

    name: ClassVar[str]
    default_init: ClassVar[str]
    one_init: ClassVar[str | None]
    all_zero: ClassVar[str | None]
    by_element: ClassVar[bool] = True

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

    def check(self, p: Tensor) -> None:  # noqa: B027
        """Refuse a parameter whose shape or shards this way cannot handle.

        Raises:
            ValueError: With the way out.
        """

    def lr_scale(self, depth: int, kind: BaseKind, spread: float) -> float:
        """Return the automatic factor-space rate over ``lr``, as `auto_lr_scale`."""
        return auto_lr_scale(depth, kind, spread)

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

    def take_over(
        self, kept: Sequence[Tensor], state: State, weight: Tensor, depth: int, changed: Tensor
    ) -> None:
        """Follow a weight that was written from outside, where ``changed`` is set.

        Where it was set to zero, the base's state, which is in ``state``, becomes zero too.
        """
        for tensor, value in zip(kept, self.match(kept, weight, depth), strict=True):
            tensor.copy_(torch.where(changed, value, tensor))
        zero_where(changed & (weight == 0), elementwise(state))

    # ------------------------------------------------------------------ zeros

    def sizes(self, weight: Tensor) -> Tensor:
        """Return the norm of whatever becomes zero at once: of each element, or of each group."""
        return weight.abs()

    def of_each(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Spread what `sizes` or a mask says of groups over the elements of a weight of this shape."""
        return values

    def check_mask(self, weight: Tensor, mask: Tensor) -> None:  # noqa: B027
        """Refuse a mask whose zeros would come back.

        Raises:
            ValueError: With the reason.
        """

    def zero_(self, kept: Sequence[Tensor], state: State, weight: Tensor, mask: Tensor) -> None:
        """Zero what is kept of masked elements, which is in ``state``, with the base's state of it."""
        zero_where(mask, elementwise(state))

    # ------------------------------------------------------------------ from a plain base

    def check_convertible(self, base: type[Optimizer], state: State, shape: torch.Size) -> None:
        """Refuse a plain base's state that cannot be converted, as `dwf_optim.convert`.

        Raises:
            ValueError: With the value's name.
        """
        check_convertible(base, state, shape)

    def convert(self, base: type[Optimizer], state: State, factors: Sequence[Tensor]) -> list[State]:
        """Turn a plain base's state of a weight into that of each part."""
        return convert_state(base, state, factors)

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
