"""Sparse inference: what a trained network whose weights hold exact zeros becomes.

The package knows nothing of the optimizer: it reads plain dense ``torch`` weights. `compile` makes a
model that skips its zeros, in one native call, exactly. Besides, it converts weights to and from CSR
(`to_csr`, `from_csr`), stores them in a file (`write_csr`, `read_csr`) and runs a chain of linear
layers with SciPy's or torch's CSR product (`CSRChain`).
"""

from inference.chain import CSRChain
from inference.engine import SparseModel, compile
from inference.formats import from_csr, to_csr
from inference.plan import Choice, Plan
from inference.storage import read_csr, write_csr

__all__ = [
    "CSRChain",
    "Choice",
    "Plan",
    "SparseModel",
    "compile",
    "from_csr",
    "read_csr",
    "to_csr",
    "write_csr",
]
