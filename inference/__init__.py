"""Sparse inference: what a trained network whose weights hold exact zeros becomes.

The package knows nothing of the optimizer: it reads plain dense ``torch`` weights. `compile` makes a
model that skips its zeros, in one native call, exactly; `SparseModel.save` and `load` keep it in one
small file, `save_state` and `load_state` weights alone. `export_onnx` writes models for onnxruntime.
Besides, it converts weights to and from CSR (`to_csr`, `from_csr`) and runs a chain of linear layers
with SciPy's or torch's CSR product (`CSRChain`).
"""

from typing import TYPE_CHECKING, Any

from inference.artifact.load import load
from inference.artifact.state import load_state, save_state
from inference.chain import CSRChain
from inference.engine import SparseModel, compile
from inference.formats import from_csr, to_csr
from inference.plan import Choice, Plan

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
    "load",
    "load_state",
    "save_state",
    "to_csr",
]


def __getattr__(name: str) -> Any:
    # Only when it is asked for: most users export nothing.
    if name == "export_onnx":
        from inference.onnx import export_onnx

        return export_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
