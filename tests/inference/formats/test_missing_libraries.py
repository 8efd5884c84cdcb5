"""Without a backend's library, that backend says what to install, and the others work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import inference

# In a process of its own, in which importing the libraries fails as if they were not there.
CODE = """
import sys

MISSING = ("scipy", "torch_sparse", "torch_scatter", "inference._native")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in MISSING):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import torch
from inference import SparseLinear, from_csr, sparse_modules, to_csr

weight = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
for backend in ("native", "scipy", "torch_sparse"):
    for use in (
        lambda: to_csr(weight, backend=backend),
        lambda: to_csr(torch.nn.Linear(2, 2), backend=backend),
        lambda: SparseLinear(2, 2, backend=backend),
        lambda: sparse_modules(torch.nn.Linear(2, 2), backend=backend, min_sparsity=0),
    ):
        try:
            use()
        except ImportError as error:
            print(error)
assert torch.equal(from_csr(to_csr(weight, backend="torch")), weight)
try:
    from_csr(weight)
except TypeError as error:
    print(error)
"""


def test_missing_libraries_are_named() -> None:
    root = Path(inference.__file__).parents[1]
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *errors, last = done.stdout.splitlines()
    assert last.startswith("expected a CSR matrix of")
    native, scipy, torch_sparse = errors[:4], errors[4:8], errors[8:]
    assert len(native) == 4
    assert all('backend "native" needs the compiled extension: reinstall' in e for e in native)
    assert scipy == 4 * ['backend "scipy" needs SciPy: pip install "dwf-optim[scipy]"']
    assert len(torch_sparse) == 4
    assert all('pip install --no-build-isolation "dwf-optim[torch-sparse]"' in e for e in torch_sparse)
