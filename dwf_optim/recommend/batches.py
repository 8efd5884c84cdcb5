"""A loader's batches, as many as are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class Batches:
    """Goes through a loader again and again.

    Args:
        loader: Anything that ``for batch in loader`` takes. One that can be gone through once only, as a
            generator, has to have enough.

    Raises:
        TypeError: If it cannot be gone through at all.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise TypeError(f"loader must give batches in a for loop, got {type(loader).__name__}")
        self._loader = loader
        self._once = isinstance(loader, Iterator)
        self._left: Iterator[Any] | None = None
        self._given = 0

    def restart(self) -> None:
        """Begin with the first batch again, where that can be."""
        if not self._once:
            self._left = None

    def take(self) -> Any:
        """Return the next batch.

        Raises:
            ValueError: If there is none: the loader is empty, or at its end and cannot begin again.
        """
        for _ in range(2):
            if self._left is None:
                self._left = iter(self._loader)
            for batch in self._left:
                self._given += 1
                return batch
            if self._once:
                raise ValueError(
                    f"the loader ran out after {self._given} batches and cannot be started again: a "
                    f"{type(self._loader).__name__} can be gone through once; give the DataLoader "
                    "itself, or a list"
                )
            self._left = None
        raise ValueError("the loader gives no batch")
