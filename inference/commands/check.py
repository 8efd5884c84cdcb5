"""Compare a network's outputs with those of the dense model.

The exit code is 0 if they agree, 1 if not, 2 if they cannot be compared.

  check model.dwf                                        against the dense weights that it holds
  check model.onnx --model pkg.mod:make --weights w.pt   against a dense model
  check w.pt --model pkg.mod:make --shape 784            compile it, and compare
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.commands.inputs import Array
from inference.commands.models import load_model
from inference.commands.output import Output, Table
from inference.commands.sources import (
    ArtifactSource,
    ModelSource,
    Source,
    add_source_arguments,
    as_list,
    inputs_of,
    open_source,
)
from inference.exact import in_float64
from inference.graph import Graph

Run = Callable[[Sequence[Array]], list[Array]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("--weights", type=Path, help="of --model, where PATH is an artifact or ONNX")
    parser.add_argument("--samples", type=int, default=1000, help="random inputs, without --inputs")
    parser.add_argument(
        "--rtol", type=float, default=1e-5, help="largest norm of the difference over the norm (1e-5)"
    )


def run(options: argparse.Namespace) -> Output:
    """Run both and compare.

    Args:
        options: Of `add_arguments`.

    Returns:
        One row an output.

    Raises:
        ValueError: If there is nothing to compare with, or shapes differ.
    """
    if options.samples < 1:
        raise ValueError(f"--samples must be at least 1, got {options.samples}")
    found, reference, against = _both(options)
    source, run_source = found
    inputs = inputs_of(options, source, options.samples)
    outputs, expected = run_source(inputs), reference(inputs)
    if len(outputs) != len(expected):
        raise ValueError(f"{options.path} has {len(outputs)} outputs, the reference {len(expected)}")
    rows = [compare(a, b) for a, b in zip(outputs, expected, strict=True)]
    passed = all(row["relative error"] <= options.rtol for row in rows)
    verdict = "agree" if passed else "DIFFER"
    data: dict[str, Any] = {
        "path": None if options.path is None else str(options.path),
        "against": against,
        "samples": len(inputs[0]),
        "rtol": options.rtol,
        "passed": passed,
        "outputs": [{key: _finite(value) for key, value in row.items()} for row in rows],
    }
    title = f"{options.path or options.model} against {against}, {len(inputs[0])} samples"
    line = f"They {verdict} (relative error up to {options.rtol:g})."
    return Output(data, [Table(title, rows)], [line], passed)


def _both(options: argparse.Namespace) -> tuple[tuple[Source, Run], Run, str]:
    """Find what is checked, and the truth."""
    path: Path | None = options.path
    if path is None or options.model is None or options.weights is None:
        source = open_source(options)
        if isinstance(source, ModelSource):
            sparse = source.compile((1, 64))

            def compiled(inputs: Sequence[Array]) -> list[Array]:
                return as_list(sparse(*inputs))

            return (source, compiled), _exact(source.model), "the dense model, in float64"
        if isinstance(source, ArtifactSource):
            reference = _exact(source.graph())
            return (source, source.run), reference, "the dense weights that it holds, in float64"
        raise ValueError(f"{path} needs a dense model to compare with: --model and --weights")
    model = load_model(options.model, options.weights)
    options.model = None
    source = open_source(options)
    return (source, source.run), _exact(model), "the dense model, in float64"


def _exact(model: torch.nn.Module | Graph) -> Run:
    exact = in_float64(model)
    return lambda inputs: [y.numpy() for y in exact([torch.from_numpy(x) for x in inputs])]


def compare(output: Array, expected: Array) -> dict[str, Any]:
    """Measure how far an output is from the truth.

    Args:
        output: ``[samples, ...]``.
        expected: The same in float64.

    Returns:
        The largest difference, the norm of the difference over the norm, and the share of samples whose
        largest output is the same one. A NaN or infinity in one of them only is an infinite difference.

    Raises:
        ValueError: If the shapes differ.
    """
    if output.shape != expected.shape:
        raise ValueError(f"outputs have shapes {list(output.shape)} and {list(expected.shape)}")
    same = (output == expected) | (np.isnan(output) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(output - expected.astype(np.float64)))
    gap = np.nan_to_num(gap, nan=np.inf, posinf=np.inf)
    norm = float(np.linalg.norm(np.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0)))
    distance = float(np.linalg.norm(gap))
    row: dict[str, Any] = {
        "shape": "x".join(map(str, output.shape)),
        "max difference": float(gap.max(initial=0.0)),
        "relative error": distance / norm if norm else distance,
    }
    if output.ndim == 2 and output.shape[1] > 1:
        row["same top-1"] = float(np.mean(output.argmax(1) == expected.argmax(1)))
    return row


def _finite(value: Any) -> Any:
    """Return what JSON has words for."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
