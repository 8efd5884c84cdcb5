"""What a command is pointed at: an artifact, an ONNX file, or weights and the model they belong to."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import inference
from inference.capture import capture
from inference.commands.inputs import Array, ModelInput, random_inputs, read_arrays, read_inputs, shape
from inference.commands.models import SUFFIXES, load_model
from inference.engine import SparseModel
from inference.graph import Graph
from inference.interpret import run as run_graph


class Source(ABC):
    """A network in some form.

    Attributes:
        path: Of the file; None for a model that was built with its weights.
        specs: What it takes.
    """

    path: Path | None
    specs: Sequence[ModelInput]

    @abstractmethod
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute its outputs, as it would be deployed.

        Args:
            inputs: One array ``[batch, ...]`` each.
        """

    @property
    def bytes(self) -> int | None:
        """Size of the file."""
        return None if self.path is None else self.path.stat().st_size


class ModelSource(Source):
    """A dense torch model."""

    def __init__(self, model: nn.Module, path: Path | None, example: Sequence[Array]) -> None:
        """Keeps the model.

        Args:
            model: In eval mode.
            path: Of its weights.
            example: One array for each input.
        """
        self.model, self.path = model, path
        self.example = [torch.from_numpy(array) for array in example]
        self.specs = [
            ModelInput(f"input {i}", array.shape[1:], str(array.dtype))
            for i, array in enumerate(example)
        ]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute in torch, in the model's own dtype."""
        with torch.inference_mode():
            outputs = self.model(*(torch.from_numpy(array) for array in inputs))
        made = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        return [tensor.float().numpy() for tensor in made]

    def graph(self) -> Graph:
        """Return its layers, nothing removed."""
        return capture(self.model, self.example)

    def tensors(self) -> list[Tensor]:
        """Return an example."""
        return self.example

    def compile(self, batch_sizes: Sequence[int], threads: int = 1) -> SparseModel:
        """Compile it for the engine."""
        return inference.compile(
            self.model, self.example, batch_sizes=batch_sizes, threads=threads, progress=True
        )


class ArtifactSource(Source):
    """A compiled model in a file, with the dense weights that it was made from."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Loads it.

        Args:
            path: The file.
            threads: How many work on one call.
        """
        self.path = path
        self.sparse = inference.load(path, threads=threads)
        assert self.sparse.source is not None  # what is loaded has one
        self.dense_graph = self.sparse.source.prepare()
        names = zip(self.sparse.graph.inputs, self.sparse.source.inputs, strict=True)
        # A compiled model takes float32, whatever the model took.
        self.specs = [
            ModelInput(
                name,
                spec.shape,
                "float32" if spec.dtype.is_floating_point else str(spec.dtype).removeprefix("torch."),
            )
            for name, spec in names
        ]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute in the engine."""
        return as_list(self.sparse(*inputs))

    def graph(self) -> Graph:
        """Return its layers, nothing removed."""
        return self.dense_graph

    def tensors(self) -> list[Tensor]:
        """Return an example."""
        return [torch.from_numpy(array) for array in random_inputs(self.specs, 2)]

    def dense(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute the dense model in torch, in float32."""
        made = run_graph(self.dense_graph, [torch.from_numpy(array) for array in inputs])
        return [tensor.numpy() for tensor in made]


class OnnxSource(Source):
    """An ONNX file, of whatever origin."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Opens it in onnxruntime.

        Args:
            path: The file.
            threads: How many work on one call.
        """
        from inference.onnx import session

        self.path = path
        try:
            self.session = session(path, threads=threads)
        except (ImportError, FileNotFoundError):
            raise
        except Exception as error:  # onnxruntime has a dozen classes for files that it cannot open
            raise ValueError(f"{path} cannot be opened by onnxruntime: {error}") from error
        self.specs = []
        for given in self.session.get_inputs():
            rest = tuple(given.shape[1:])
            if not all(isinstance(size, int) for size in rest):
                raise ValueError(
                    f"{path}: input {given.name!r} has shape {given.shape}; only the batch may vary"
                )
            self.specs.append(ModelInput(given.name, rest, _numpy_dtype(given.type)))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute in onnxruntime."""
        named = {spec.name: array for spec, array in zip(self.specs, inputs, strict=True)}
        return [np.asarray(output) for output in self.session.run(None, named)]


def as_list(outputs: Any) -> list[Array]:
    """Return a model's output or outputs as a list."""
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def _numpy_dtype(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `open_source` reads."""
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        help=f"an artifact, an .onnx file, or weights ({', '.join(SUFFIXES)}) with --model",
    )
    parser.add_argument("--model", metavar="PKG.MOD:NAME", help="what builds the model of the weights")
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        metavar="N,N,...",
        help="of the model's input without the batch, as 3,32,32; once for each input",
    )
    parser.add_argument("--inputs", type=Path, metavar="FILE", help=".npy or .npz of inputs to use")


def open_source(options: argparse.Namespace) -> Source:
    """Open what the options name.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is not of a known kind, or options are missing.
    """
    path: Path | None = options.path
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if options.model is None:
        return _open_file(path, getattr(options, "threads", 1))
    if path is not None and path.suffix not in SUFFIXES:
        raise ValueError(f"with --model, {path} must hold weights: {', '.join(SUFFIXES)}")
    return ModelSource(load_model(options.model, path), path, _example(options))


def _open_file(path: Path | None, threads: int) -> Source:
    if path is None:
        raise ValueError("name a file, or --model")
    if path.suffix == ".onnx":
        return OnnxSource(path, threads)
    if path.suffix in SUFFIXES and path.suffix != ".safetensors":
        raise ValueError(f"{path} holds weights only: say --model PKG.MOD:NAME --shape N,N,... too")
    return ArtifactSource(path, threads)


def _example(options: argparse.Namespace) -> list[Array]:
    """Make the batch that a model is captured with."""
    if options.inputs is not None:
        arrays = read_arrays(options.inputs).values()
        # Numbers are saved in float64 unless one takes care, and hardly any model computes in it.
        wide = [a.astype(np.float32) if a.dtype == np.float64 else a for a in (x[:2] for x in arrays)]
        return [np.ascontiguousarray(array) for array in wide]
    if options.shape is None:
        raise ValueError("--model needs --shape N,N,... of its input (no batch), or --inputs FILE")
    return random_inputs([ModelInput(f"input {i}", s) for i, s in enumerate(options.shape)], 2)


def inputs_of(options: argparse.Namespace, source: Source, samples: int) -> list[Array]:
    """Read the inputs that the options name, or draw some.

    Args:
        options: With ``inputs``.
        source: Whose inputs.
        samples: How many to draw where no file is named.
    """
    if options.inputs is not None:
        return read_inputs(options.inputs, source.specs)
    return random_inputs(source.specs, samples)
