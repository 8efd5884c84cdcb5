"""Write a network as an artifact and as ONNX, and compare the files.

export w.pt --model pkg.mod:make --shape 784 --out exported
export model.dwf --kinds compact,custom-op --out exported
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

import inference
from inference.commands.inputs import sizes
from inference.commands.output import Output, Table
from inference.commands.sources import (
    ArtifactSource,
    ModelSource,
    add_source_arguments,
    open_source,
)
from inference.graph import Graph

ARTIFACT = "artifact"
KINDS = (ARTIFACT, "compact", "sparse", "custom-op")


def kinds(text: str) -> tuple[str, ...]:
    """Read kinds from the command line.

    Raises:
        argparse.ArgumentTypeError: If one is unknown.
    """
    found = tuple(text.split(","))
    if unknown := [kind for kind in found if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"unknown kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--kinds", type=kinds, default=KINDS, metavar="KIND,...", help=",".join(KINDS))
    parser.add_argument("--batch-sizes", type=sizes, default=(1, 64), metavar="N,N,...", help="(1,64)")
    parser.add_argument("--no-timing", action="store_true", help="write the files, measure nothing")


def run(options: argparse.Namespace) -> Output:
    """Write the files, then measure them beside the dense model.

    Args:
        options: Of `add_arguments`.

    Returns:
        One row a way to run the network: its file, bytes, median microseconds a call, largest error.

    Raises:
        ValueError: If the network is an ONNX file, which cannot be read back.
    """
    source = open_source(options)
    if not isinstance(source, ModelSource | ArtifactSource):
        raise ValueError(
            f"{source.path} is ONNX already; export takes weights with --model, or an artifact"
        )
    sparse = source.compile(options.batch_sizes) if isinstance(source, ModelSource) else source.sparse
    graph, example = source.graph(), source.tensors()
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    stem = source.path.stem if source.path is not None else "model"
    files: dict[str, Path] = {}
    for kind in tqdm(options.kinds, unit="file", leave=False):
        files[kind] = folder / (f"{stem}.dwf" if kind == ARTIFACT else f"{stem}.{kind}.onnx")
        if kind == ARTIFACT:
            sparse.save(files[kind])
        else:
            inference.export_onnx(graph, example, files[kind], kind)
    rows: list[dict[str, Any]] = [
        {"way": kind, "file": str(path), "bytes": path.stat().st_size} for kind, path in files.items()
    ]
    lines: list[str] = []
    if not options.no_timing:
        try:
            rows = _measured(graph, example, files, options.batch_sizes)
        # The files are there all the same.
        except (ImportError, FileNotFoundError, ValueError) as error:
            lines = [f"nothing was measured: {error}"]
    data = {"files": rows, "not_measured": lines}
    return Output(data, [Table(f"{options.path or options.model}, one thread", rows)], lines)


def _measured(
    graph: Graph, example: list[Tensor], files: dict[str, Path], batch_sizes: tuple[int, ...]
) -> list[dict[str, Any]]:
    from inference.onnx.compare import ENGINE, compare

    ways = ["dense", *(ENGINE if kind == ARTIFACT else kind for kind in files)]
    made = compare(graph, example, batch_sizes=batch_sizes, ways=ways)
    rows = []
    for way in made:
        path = files.get(ARTIFACT if way.name == ENGINE else way.name)
        rows.append(
            {
                "way": "engine (artifact)" if way.name == ENGINE else f"onnxruntime, {way.name}",
                "file": "-" if path is None else str(path),
                "bytes": way.bytes if path is None else path.stat().st_size,
                **{f"us at batch {size}": taken for size, taken in way.microseconds.items()},
                "max error": way.error,
            }
        )
    return rows
