from collections.abc import Sequence
from enum import Enum
from typing import Any

from torch import Tensor

class Rule(Enum):
    SGD = 0
    MOMENTUM = 1
    ADAM = 2
    AMSGRAD = 3

class Storage(Enum):
    FULL = 0
    TIED = 1
    EPHEMERAL = 2
    GATED = 3

class Options:
    @staticmethod
    def make(
        *,
        rule: Rule,
        storage: Storage,
        depth: int,
        lr: float,
        penalty: float,
        weigh_by_size: bool,
        dead: float,
        flush: bool,
        base: dict[str, Any],
    ) -> Options: ...

class Table:
    @property
    def rest(self) -> list[int]: ...
    @property
    def members(self) -> list[int]: ...
    @property
    def weights(self) -> list[Tensor]: ...
    def step(
        self,
        options: Options,
        threads: int,
        instruction_set: str,
        compare: bool,
        ranges: Sequence[tuple[int, int, int]] | None = ...,
    ) -> list[tuple[int, int, int]]: ...
    @property
    def plain_weights(self) -> list[Tensor]: ...
    def step_plain(self, base: dict[str, Any]) -> None: ...

class TorchC:
    def __init__(
        self,
        functions: Sequence[int],
        constants: Sequence[int],
        example: Tensor,
        implementation: int,
        storage: int,
    ) -> None: ...

class Reader:
    def __init__(
        self,
        types: tuple[type, ...],
        dtypes: tuple[Any, ...],
        strided: Any,
        torch: TorchC,
        examples: list[Tensor],
    ) -> None: ...
    @property
    def by_functions(self) -> bool: ...
    def collect(
        self,
        parameters: list[Tensor],
        states: dict[Tensor, dict[str, Any]],
        kept: list[str],
        moments: list[list[str]],
        counts: list[str],
        min_ndim: int,
        plain: list[str] | None = ...,
        split: tuple[int, Sequence[int]] | None = ...,
    ) -> Table: ...
    def factor_gradients(
        self,
        factors: list[Tensor],
        grad: Tensor,
        decay: float,
        out: list[Tensor],
        threads: int,
        instruction_set: str,
    ) -> bool: ...
    def finish(
        self,
        factors: list[Tensor],
        state: list[Tensor],
        weight: Tensor,
        dead: float,
        threads: int,
        instruction_set: str,
    ) -> bool: ...

def instruction_sets() -> list[str]: ...
def plain_is_supported() -> bool: ...
