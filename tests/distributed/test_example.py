"""The script that `docs/distributed.md` shows, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "train_distributed.py"


def torchrun(world: int, *options: str) -> str:
    """Run the script to its end and return what it prints."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(
        [sys.executable, *command, str(SCRIPT), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_report(text: str, sparsity: str, accuracy: float) -> None:
    assert re.search(rf"^total +50,200 .* {re.escape(sparsity)} ", text, re.MULTILINE), text
    before, after = map(float, re.search(r"metric ([\d.]+) -> ([\d.]+)", text).groups())
    assert min(before, after) > accuracy, text


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp"])
def test_it_trains_a_sparse_network(strategy: str) -> None:
    # A linear classifier reaches 95 %; ten classes make 10 % of guessing. So much has surely learned.
    text = torchrun(2, "--strategy", strategy, "--epochs", "10", "--sparsity", "0.8")
    assert_report(text, "80.00%", accuracy=0.9)


@pytest.mark.slow
def test_it_resumes_on_another_number_of_ranks(tmp_path: Path) -> None:
    options = ["--checkpoint", str(tmp_path / "run"), "--epochs", "10", "--sparsity", "0.8"]
    torchrun(2, *options)
    # One epoch would not get there from the start.
    assert_report(torchrun(1, *options, "--epochs", "1"), "80.00%", accuracy=0.9)
