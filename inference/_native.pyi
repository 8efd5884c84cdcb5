from collections.abc import Sequence
from typing import Any

class Program:
    @property
    def kernels(self) -> list[str]: ...
    @property
    def bytes(self) -> list[int]: ...
    def run(self, inputs: Any, outputs: Any, threads: int = ...) -> None: ...
    def run_tiles(self, inputs: Any, outputs: Any, threads: int = ...) -> None: ...

class Builder:
    def __init__(self, instruction_set: str = ..., widest: int = ...) -> None: ...
    @property
    def size(self) -> int: ...
    def value(self, sizes: tuple[int, int, int, int, int]) -> int: ...
    def input(self, value: int) -> None: ...
    def build(self, outputs: Sequence[int]) -> Program: ...
    def add(
        self, first: int, second: int, output: int, activation: str = ..., slope: float = ...
    ) -> None: ...
    def affine(
        self,
        input: int,
        output: int,
        scale: Any,
        shift: Any,
        activation: str = ...,
        slope: float = ...,
    ) -> None: ...
    def concat(self, inputs: Sequence[int], output: int) -> None: ...
    def dense_conv(
        self,
        input: int,
        output: int,
        weights: Any,
        window: Sequence[int],
        groups: int = ...,
        bias: Any | None = ...,
        added: int = ...,
        activation: str = ...,
        slope: float = ...,
        panel: int | None = ...,
    ) -> None: ...
    def dense_linear(
        self,
        input: int,
        output: int,
        weights: Any,
        bias: Any | None = ...,
        activation: str = ...,
        slope: float = ...,
    ) -> None: ...
    def elementwise(self, input: int, output: int, activation: str, slope: float = ...) -> None: ...
    def pool(
        self,
        input: int,
        output: int,
        largest: bool,
        rows: Sequence[tuple[int, int, float]],
        columns: Sequence[tuple[int, int, float]],
        steps: Sequence[int] = ...,
    ) -> None: ...
    def softmax(self, input: int, output: int) -> None: ...
    def sparse_conv(
        self,
        input: int,
        output: int,
        begins: Any,
        indices: Any,
        weights: Any,
        window: Sequence[int],
        groups: int = ...,
        bias: Any | None = ...,
        added: int = ...,
        activation: str = ...,
        slope: float = ...,
        panel: int | None = ...,
    ) -> None: ...
    def sparse_linear(
        self,
        input: int,
        output: int,
        begins: Any,
        indices: Any,
        weights: Any,
        bias: Any | None = ...,
        activation: str = ...,
        slope: float = ...,
    ) -> None: ...

def instruction_sets() -> list[str]: ...
def register_tensors(types: tuple[type, ...], exchange: object) -> None: ...
