"""Everything works, through torch, where the extension was not built."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import inference


def test_without_the_extension(tmp_path):
    shutil.copytree(
        Path(inference.__file__).parent,
        tmp_path / "inference",
        ignore=shutil.ignore_patterns("_native.*", "csrc", "__pycache__"),
    )
    script = Path(__file__).with_name("without_extension.py")
    packages = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    # Without site, so that no editable install puts its own finder in front.
    command = [sys.executable, "-I", "-S", "-W", "ignore", script, tmp_path, *packages]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
