"""The demo's last part: the sparse network as files, what they weigh and how fast they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import inference
from benchmarks.records import table
from inference import native
from inference.onnx import compare

ENGINE = "engine"
FILES = {
    ENGINE: "network.dwf",
    "custom-op": "network.custom-op.onnx",
    "compact": "network.compact.onnx",
    "sparse": "network.sparse.onnx",
    "dense": "network.dense.onnx",
}
HEADER = ["file", "bytes", "us, 1 image", "us, 64", "error"]
BATCHES = (1, 64)


def export(model: nn.Module, example: Tensor, folder: Path) -> list[list[str]]:
    """Write the files, and measure them in turns, on one thread.

    Args:
        model: With exact zeros.
        example: Inputs ``[64, ...]``.
        folder: For the files.

    Returns:
        A row a file, as `HEADER` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ways = [way for way in FILES if way != "custom-op" or native.is_built()]
    for way in ways:
        if way == ENGINE:
            inference.compile(model, example, batch_sizes=BATCHES).save(folder / FILES[way])
        else:
            inference.export_onnx(model, example, folder / FILES[way], way)
    return [
        [
            FILES[way.name],
            f"{(folder / FILES[way.name]).stat().st_size:,}",
            *(f"{way.microseconds[size]:.1f}" for size in BATCHES),
            f"{way.error:.0e}",
        ]
        for way in compare(model, example, batch_sizes=BATCHES, ways=ways)
    ]


def show_files(rows: Sequence[Sequence[str]], folder: Path) -> None:
    """Print the files."""
    made = Table(title=f"Exported to {folder}", title_style="bold", box=box.ROUNDED)
    for number, name in enumerate(HEADER):
        made.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    Console().print(made)


def files_section(rows: Sequence[Sequence[str]]) -> str:
    """Write the files as a section of a Markdown page."""
    return "\n".join(
        [
            "## Exported files\n",
            "The first seed's sparse network, written by `SparseModel.save` (.dwf, in the engine) and "
            "`inference.export_onnx` (in onnxruntime); microseconds of a call from NumPy to NumPy on "
            "one thread, all files in turns; largest error as a share of the largest output. "
            "`network.dense.onnx` is the same network with its zeros multiplied.\n",
            table(HEADER, rows),
        ]
    )
