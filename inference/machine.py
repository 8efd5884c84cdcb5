"""What machine this is, as far as plans go that were measured on it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from inference import native

CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def machine() -> str:
    """Return the CPU's name and the widest instruction set that the engine uses on it."""
    name = platform.processor() or platform.machine()
    if CPUINFO.exists():
        lines = CPUINFO.read_text(errors="replace").splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(names, name)
    widest = native.instruction_sets()[-1:]
    return ", ".join((name, *(widest or ("no extension",))))
