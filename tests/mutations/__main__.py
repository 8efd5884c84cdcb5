"""Plant known bugs, one at a time, and show that the property tests find each.

``python -m tests.mutations`` plants every bug and writes the table in benchmarks/results/mutations.md.
``--fast`` plants six, each for the files that should find it, up to the first test that does: minutes.
The exit status is 1 if a bug survives.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.environment import ROOT
from tests.mutations.bugs import BUGS, Bug

TABLE = ROOT / "benchmarks" / "results" / "mutations.md"
COPIED = ("dwf_optim", "inference", "tests", "pyproject.toml")
PROPERTIES = Path("tests") / "properties"
KILLERS = 3  # a bug that breaks more than that is not run to the end


@dataclass(frozen=True)
class Verdict:
    """What became of one bug."""

    bug: Bug
    killers: list[str]
    seconds: float


# An editable install finds packages before sys.path does, and would find the clone's.
UNHOOK = (
    "import sys; "
    "sys.meta_path[:] = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__]; "
)


def copy_to(folder: Path) -> None:
    """Copy what the property tests need, compiled extensions too."""
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    # An editable install keeps what is compiled in another folder than the sources.
    for package in ("dwf_optim", "inference"):
        found = importlib.util.find_spec(f"{package}._native")
        if found is not None and found.origin is not None:
            shutil.copy(found.origin, folder / package)


def failing(root: Path, files: list[str], at_most: int) -> list[str]:
    """Run property tests in a copy, and name those that fail.

    Raises:
        RuntimeError: If pytest did not come to run tests.
    """
    environment = {**os.environ, "PYTHONPATH": str(root), "HYPOTHESIS_PROFILE": "mutants"}
    options = [
        "-q",
        "--tb=no",
        "-rfE",
        f"--maxfail={at_most}",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
    ]
    files = [str(PROPERTIES / file) for file in files]
    command = [sys.executable, "-c", UNHOOK + "import pytest; sys.exit(pytest.main())", *options, *files]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return re.findall(r"^(?:FAILED|ERROR) \S*properties/(\S+)", done.stdout, re.MULTILINE)


def try_bug(bug: Bug, every_file: list[str], fast: bool) -> Verdict:
    """Plant a bug in a copy of its own and run the tests there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_to(root)
        bug.plant(root)
        start = time.monotonic()
        at_most = 1 if fast else KILLERS
        killers = failing(root, list(bug.suspects), at_most)
        if not fast and not killers:
            rest = [file for file in every_file if file not in bug.suspects]
            killers = failing(root, rest, at_most)
        return Verdict(bug, killers, time.monotonic() - start)


def check_the_copy_is_what_runs() -> None:
    """Without a bug, tests must run the copy's code and pass: else the table would say nothing."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_to(root)
        code = UNHOOK + "import dwf_optim; print(dwf_optim.__file__)"
        environment = {**os.environ, "PYTHONPATH": str(root)}
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if not Path(found).resolve().is_relative_to(root.resolve()):
            raise RuntimeError(f"the tests would run {found}, not the copy with the bug")
        broken = failing(root, ["test_gradients.py"], 1)
        if broken:
            raise RuntimeError(f"tests fail without a bug: {broken}")


def table(verdicts: list[Verdict]) -> str:
    """Write the table."""
    lines = [
        "# Planted bugs, and the property tests that find them",
        "",
        "`python -m tests.mutations` (`make mutants`), profile `mutants` (`ci` without shrinking): each "
        "bug alone in a copy of the repository. First the files run that should find it, then, only if "
        f"they do not, all others; of the tests that fail, the first {KILLERS} are named.",
        "",
        "| bug | in | killed by |",
        "|---|---|---|",
    ]
    for verdict in verdicts:
        killers = "<br>".join(f"`{name}`" for name in verdict.killers) or "**survives**"
        lines.append(
            f"| {verdict.bug.name.replace('|', chr(92) + '|')} | `{verdict.bug.path}` | {killers} |"
        )
    killed = sum(bool(verdict.killers) for verdict in verdicts)
    return "\n".join([*lines, "", f"{killed} of {len(verdicts)} killed.", ""])


def main() -> int:
    """Run, print as it goes, and write the table unless ``--fast``."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument(
        "--fast", action="store_true", help="six bugs, to the first test that finds each"
    )
    fast = parser.parse_args().fast
    check_the_copy_is_what_runs()
    every_file = sorted(path.name for path in (ROOT / PROPERTIES).glob("test_*.py"))
    verdicts = []
    for bug in BUGS:
        if fast and not bug.fast:
            continue
        verdict = try_bug(bug, every_file, fast)
        verdicts.append(verdict)
        print(
            f"{bug.name}: {', '.join(verdict.killers) or 'SURVIVES'} ({verdict.seconds:.0f} s)",
            flush=True,
        )
    if not fast:
        TABLE.write_text(table(verdicts))
    return int(any(not verdict.killers for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
