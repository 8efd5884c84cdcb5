"""The example scripts run as a user runs them, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Far from chance: who guesses ten digits has 0.5 on 360 images with a probability below 1e-80.
LEAST_ACCURACY = 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "sparsity"),
    [
        ("train_with_lightning.py", ["--epochs", "8"], 0.9),
        ("train_with_accelerate.py", ["--epochs", "5"], 0.8),
        ("train_with_accelerate.py", ["--epochs", "5", "--mixed-precision", "bf16"], 0.8),
        ("train_with_transformers.py", ["--max-steps", "150"], 0.7),
    ],
)
def test_example_trains_a_sparse_and_accurate_network(
    script: str, options: list[str], sparsity: float, tmp_path: Path
) -> None:
    """Fewer steps than its defaults, and fewer zeros, which short training bears."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",  # nothing is downloaded
    }
    run = subprocess.run(
        [sys.executable, ROOT / "docs" / "examples" / script, *options, "--sparsity", str(sparsity)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    row = re.search(r"^total +([\d,]+) +([\d,]+) ", run.stdout, re.MULTILINE)
    last = re.search(r"^test accuracy ([\d.]+) with ([\d.]+)% zeros$", run.stdout, re.MULTILINE)
    assert row, run.stdout
    assert last, run.stdout
    total, nonzero = (int(count.replace(",", "")) for count in row.groups())
    assert nonzero > 0
    assert (total - nonzero) / total >= sparsity
    assert float(last[2]) >= 100 * sparsity
    assert float(last[1]) >= LEAST_ACCURACY
    assert "lr outside the usable window" not in run.stderr
    assert list(tmp_path.iterdir()) == []
