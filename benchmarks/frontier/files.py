"""Files of data sets: found, whole, and what they should be. Nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path


def checked(path: Path, checksum: str, get_it: str) -> Path:
    """Return a file's path if it is there and has the checksum.

    Args:
        path: The file.
        checksum: "algorithm:hexadecimal", as "md5:f68b...".
        get_it: Where to get it, for the message.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is another file, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: get it from {get_it}, and name its folder by --data"
        )
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        found = (
            hashlib.file_digest(file, algorithm).hexdigest()
            if hasattr(hashlib, "file_digest")
            else (hashlib.new(algorithm, file.read()).hexdigest())
        )
    if found != expected:
        raise ValueError(
            f"{path} is damaged, or another file: its {algorithm} is {found}, not {expected}; delete it "
            f"and get it anew from {get_it}"
        )
    return path


def read(path: Path) -> bytes:
    """Read a file, unpacked if its name ends in .gz.

    Raises:
        ValueError: If it cannot be unpacked.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}): it is damaged; get it anew") from error
