"""Run the tests of the compiled extensions on builds that watch memory and undefined behaviour.

``make sanitize`` calls it; further arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.environment import ROOT, Environment

FOLDER = ROOT / "build" / "sanitized"


def build() -> Path:
    """Build a wheel; what has not changed since the last time is not compiled again."""
    for old in FOLDER.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
    # Debug, for nanobind's assertions.
    settings = {
        "cmake.define.DWF_SANITIZE": "ON",
        "cmake.build-type": "Debug",
        "build-dir": "build/sanitized/cmake",
    }
    options = [f"-C{name}={value}" for name, value in settings.items()]
    subprocess.run([*pip, *options, "-w", FOLDER, "."], cwd=ROOT, check=True)
    (wheel,) = FOLDER.glob("*.whl")
    return wheel


def library(name: str) -> str:
    """Find a shared library of the compiler."""
    compiler = os.environ.get("CXX", "c++")
    command = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"{compiler} has no {name}: take GCC with its sanitizers, make sanitize CXX=g++")
    return path


def main() -> int:
    environment = Environment(FOLDER / "environment")
    environment.install(build())
    folders = [
        ROOT / "tests" / "sanitized",
        *ROOT.glob("tests/**/native"),
        ROOT / "tests" / "inference" / "onnx" / "test_hostile.py",
    ]
    variables = {
        # Python was started without them. With libstdc++ loaded later than AddressSanitizer, exceptions
        # would abort.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        # Python and torch leave memory to the end of the process, and are not what is tested here.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # Each object in memory of its own, so that use after release is seen there, too.
        "PYTHONMALLOC": "malloc",
    }
    # The installed packages go before the repository's, from where only the tests are imported.
    pytest = ["-m", "pytest", "-o", f"pythonpath={environment.packages} ."]
    command = [environment.python, *pytest, *sys.argv[1:], *folders]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}).returncode


if __name__ == "__main__":
    sys.exit(main())
