"""Sparse inference: what a trained network whose weights hold exact zeros becomes.

The package knows nothing of the optimizer: it reads plain dense ``torch`` weights. `compile` makes a
model that skips its zeros, in one native call, exactly. Besides, it converts weights to and from CSR
(`to_csr`, `from_csr`), stores them in a file (`write_csr`, `read_csr`), and has modules with CSR weights
that other libraries compute (`sparse_modules`).
"""

from inference.engine import SparseModel, compile
from inference.formats import CSRWeights, from_csr, to_csr
from inference.modules import SparseConv2d, SparseLinear, sparse_modules
from inference.plan import Choice, Plan
from inference.storage import read_csr, write_csr

__all__ = [
    "CSRWeights",
    "Choice",
    "Plan",
    "SparseConv2d",
    "SparseLinear",
    "SparseModel",
    "compile",
    "from_csr",
    "read_csr",
    "sparse_modules",
    "to_csr",
    "write_csr",
]
