"""Sparse inference: what a trained network whose weights hold exact zeros becomes.

The package knows nothing of the optimizer: it reads plain dense ``torch`` weights. `compile` makes a
model that skips its zeros, in one native call, exactly. Besides, it converts weights to and from CSR
(`to_csr`, `from_csr`), stores them in a file (`write_csr`, `read_csr`) and runs a chain of linear
layers with SciPy's or torch's CSR product (`CSRChain`). `export_onnx` writes models for onnxruntime.
"""

from typing import TYPE_CHECKING, Any

from inference.chain import CSRChain
from inference.engine import SparseModel, compile
from inference.formats import from_csr, to_csr
from inference.plan import Choice, Plan
from inference.storage import read_csr, write_csr

if TYPE_CHECKING:
    from inference.onnx import export_onnx

__all__ = [
    "CSRChain",
    "Choice",
    "Plan",
    "SparseModel",
    "compile",
    "export_onnx",
    "from_csr",
    "read_csr",
    "to_csr",
    "write_csr",
]


def __getattr__(name: str) -> Any:
    # Only when it is asked for: most users export nothing.
    if name == "export_onnx":
        from inference.onnx import export_onnx

        return export_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
