"""Write a network as an artifact and as ONNX, and compare the files.

  export w.pt --model pkg.mod:make --shape 784 --out exported
  export model.dwf --kinds compact,custom-op --out exported
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from inference.commands.inputs import sizes
from inference.commands.output import Output, Table
from inference.commands.sources import (
    ArtifactSource,
    ModelSource,
    add_source_arguments,
    open_source,
)

KINDS = ("artifact", "compact", "sparse", "custom-op")


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
