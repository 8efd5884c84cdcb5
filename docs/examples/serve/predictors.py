"""What the server runs: an artifact in the sparse engine, or any ONNX file in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import inference


@dataclass(frozen=True)
class Predictor:
    """A loaded model.

    Attributes:
        name: What is served, for people and metrics.
        shape: Of one sample.
        predict: From float32 ``[batch, *shape]`` to ``[batch, ...]``; safe to call from several threads.
    """

    name: str
    shape: tuple[int, ...]
    predict: Callable[[np.ndarray], np.ndarray]


def load_predictor(path: Path) -> Predictor:
    """Load a model by its file name: ``.onnx`` for onnxruntime, anything else is an artifact.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, has several inputs or outputs, or takes other than float32.
    """
    return _from_onnx(path) if path.suffix == ".onnx" else _from_artifact(path)


def _from_artifact(path: Path) -> Predictor:
    model = inference.load(path)
    graph = model.graph
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"{path} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; one each is served"
        )
    shape = graph.shapes[graph.inputs[0]]
    if shape is None:
        raise ValueError(f"{path} takes integers; only models of float32 inputs are served")
    return Predictor(path.name, tuple(shape), model)


def _from_onnx(path: Path) -> Predictor:
    from inference.onnx import session

    opened = session(path)
    if len(opened.get_inputs()) != 1 or len(opened.get_outputs()) != 1:
        raise ValueError(f"{path} must have one input and one output to be served")
    (given,) = opened.get_inputs()
    if given.type != "tensor(float)" or not all(isinstance(size, int) for size in given.shape[1:]):
        raise ValueError(f"{path} takes {given.type} {given.shape}; expected float32 of one shape")
    return Predictor(path.name, tuple(given.shape[1:]), lambda x: opened.run(None, {given.name: x})[0])
