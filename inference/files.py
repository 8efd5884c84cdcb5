"""Writing files so that nothing half-written is ever seen, and nothing lost."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

FilePath = str | os.PathLike[str]


def write_bytes(path: FilePath, content: bytes) -> None:
    """Write a file that appears whole or not at all: a write that fails leaves what was there before.

    Args:
        path: The file; its name is used as it is.
        content: All of it.

    Raises:
        OSError: If it cannot be written.
    """
    target = Path(path)
    # In the same folder, so that the replacement is one rename on one file system.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
