"""Sparse inference: what a trained network whose weights hold exact zeros becomes.

The package knows nothing of the optimizer: it reads plain dense ``torch`` weights. `compile` makes a
model that skips its zeros, in one native call, exactly; `SparseModel.save` and `load` keep it in one
small file, `save_state` and `load_state` weights alone; `export_onnx` writes it for onnxruntime.
`shrink` makes a smaller dense model where whole filters, neurons or heads are zero. The package also
converts weights to and from CSR (`to_csr`, `from_csr`), and has modules with CSR weights that other
libraries compute (`sparse_modules`).
"""

from typing import TYPE_CHECKING, Any

from inference.artifact.load import load
from inference.artifact.state import load_state, save_state
from inference.compiling import compile
from inference.engine import SparseModel
from inference.formats import CSRWeights, from_csr, to_csr
from inference.modules import SparseConv2d, SparseLinear, sparse_modules
from inference.plan import Choice, Plan
from inference.shrinking.shrink import shrink, shrink_with_report

if TYPE_CHECKING:
    from inference.onnx import export_onnx

__all__ = [
    "CSRWeights",
    "Choice",
    "Plan",
    "SparseConv2d",
    "SparseLinear",
    "SparseModel",
    "compile",
    "export_onnx",
    "from_csr",
    "load",
    "load_state",
    "save_state",
    "shrink",
    "shrink_with_report",
    "sparse_modules",
    "to_csr",
]


def __getattr__(name: str) -> Any:
    # Only when it is asked for: most users export nothing.
    if name == "export_onnx":
        from inference.onnx import export_onnx

        return export_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
