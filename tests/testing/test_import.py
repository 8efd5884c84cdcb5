"""hypothesis is needed by who imports the toolkit, and by nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dwf_optim

ROOT = Path(dwf_optim.__file__).parents[1]


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_optimizer_does_not_import_hypothesis() -> None:
    assert run("import sys, dwf_optim, inference; print('hypothesis' in sys.modules)") == "False\n"


def test_without_hypothesis_the_extra_is_named() -> None:
    code = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hypothesis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
try:
    import dwf_optim.testing
except ImportError as error:
    print(error)
"""
    assert run(code) == "dwf_optim.testing needs hypothesis: pip install 'dwf-optim[testing]'\n"


def test_the_judge_does_not_import_what_it_judges() -> None:
    """Nothing in the toolkit imports the optimizer's code: a bug there cannot hide itself."""
    for file in (ROOT / "dwf_optim" / "testing").rglob("*.py"):
        for line in file.read_text().splitlines():
            if line.startswith(("from dwf_optim", "import dwf_optim")):
                assert line.startswith("from dwf_optim.testing"), (file, line)
