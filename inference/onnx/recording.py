"""A native program as bytes: the calls that build it, for the onnxruntime library to repeat.

Whatever lowering asks of the engine's builder is written down, so every layer that the engine runs can
be stored. `inference/csrc/onnxruntime/reader.h` and `loaded.cpp` read it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from inference.graph import Graph
from inference.lowering import lower_into
from inference.lowering.context import lanes_for
from inference.segments import Segment

MAGIC = b"DWFP"
# Raised when the arguments of an op change their meaning.
VERSION = 1

Sizes = tuple[int, int, int, int, int]


class Recorder:
    """Takes the calls that the engine's builder takes, and keeps them."""

    def __init__(self) -> None:
        self.values: list[Sizes] = []
        self.inputs: list[int] = []
        self.calls: list[bytes] = []

    def value(self, sizes: Sizes) -> int:
        """Number a value."""
        self.values.append(sizes)
        return len(self.values) - 1

    def input(self, value: int) -> None:
        """Declare a value that the caller gives."""
        self.inputs.append(value)

    def __getattr__(self, op: str) -> Callable[..., None]:
        if op.startswith("_"):
            raise AttributeError(op)

        def record(*arguments: Any) -> None:
            parts = [_text(op), struct.pack("<B", len(arguments)), *map(encode, arguments)]
            self.calls.append(b"".join(parts))

        return record


def record(segment: Segment) -> bytes:
    """Write a native segment of a graph as bytes.

    Args:
        segment: Of layers that the engine runs.

    Returns:
        The program: values, inputs, calls, outputs, and the shapes that it is called with.
    """
    graph, recorder = segment.graph, Recorder()
    outputs, _ = lower_into(recorder, graph)
    return b"".join(
        [
            MAGIC,
            _numbers(VERSION, lanes_for(graph), len(recorder.values)),
            *(_numbers(*sizes) for sizes in recorder.values),
            _counted(recorder.inputs),
            _numbers(len(recorder.calls)),
            *recorder.calls,
            _counted(outputs),
            _numbers(math.prod(segment.lead)),
            _shapes(segment, graph.inputs, graph),
            _shapes(segment, graph.outputs, graph),
        ]
    )


def encode(argument: Any) -> bytes:
    """Write one argument of a call; indices take 16 bits each where they fit.

    Raises:
        TypeError: If it is nothing that a call takes.
    """
    if argument is None:
        return b"n"
    if isinstance(argument, bool):
        return b"b" + struct.pack("<B", argument)
    if isinstance(argument, int):
        return b"i" + struct.pack("<q", argument)
    if isinstance(argument, float):
        return b"d" + struct.pack("<d", argument)
    if isinstance(argument, str):
        return b"s" + _text(argument)
    if isinstance(argument, list | tuple):
        return b"l" + _numbers(len(argument)) + b"".join(map(encode, argument))
    if isinstance(argument, np.ndarray) and argument.dtype == np.float32:
        return b"f" + _array(argument.astype("<f4"))
    if isinstance(argument, np.ndarray) and argument.dtype == np.int32:
        fits = not argument.size or (argument.min() >= 0 and argument.max() < 2**16)
        return b"H" + _array(argument.astype("<u2")) if fits else b"I" + _array(argument.astype("<i4"))
    raise TypeError(f"a call cannot have an argument of type {type(argument).__name__}")


def _array(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack("<B", array.ndim) + _numbers(*array.shape) + array.tobytes()


def _text(text: str) -> bytes:
    return _numbers(len(text.encode())) + text.encode()


def _numbers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _counted(numbers: list[int]) -> bytes:
    return _numbers(len(numbers), *numbers)


def _shapes(segment: Segment, names: tuple[str, ...], graph: Graph) -> bytes:
    """Write the shapes of values without the batch, but with the segment's leading dimensions."""
    shapes = [[*segment.lead, *(graph.shapes[name] or ())] for name in names]
    return _numbers(len(shapes)) + b"".join(map(_counted, shapes))
