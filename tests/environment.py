"""A fresh environment with this project installed, which borrows all other packages from this one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A folder csrc makes the extension `_native` of the package that it lies in.
PACKAGES_WITH_EXTENSION = sorted(folder.parent.name for folder in ROOT.glob("*/csrc"))


class Environment:
    """A virtual environment without pip.

    Attributes:
        python: Its interpreter.
        packages: Its folder of packages.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        query = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.packages = Path(self.run("-c", query).stdout.strip())
        # Its own packages come first. Of the borrowed folder no .pth file is read, and so not the import
        # hook of an editable install, which would find this repository.
        borrowed = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (self.packages / "borrowed.pth").write_text("\n".join(borrowed))

    def install(self, source: Path, **variables: str) -> None:
        """Install a wheel or sdist with environment variables, and nothing that it depends on.

        It is installed even if one of the same version is found among the borrowed packages, and from
        this very file, though pip may remember a wheel that it made of an earlier one.
        """
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install"]
        alone = [
            "--no-cache-dir",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--ignore-installed",
        ]
        subprocess.run([*pip, *alone, source], check=True, env={**os.environ, **variables})

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter to the end, away from this repository and from the user's settings."""
        return subprocess.run(
            [self.python, "-I", *arguments],
            cwd=self.python.parent,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )
