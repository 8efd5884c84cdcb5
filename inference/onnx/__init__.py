"""Models as ONNX files, and running them in onnxruntime. Needs the extra ``onnx``."""

from inference.onnx.compare import Way, compare
from inference.onnx.export import KINDS, export_onnx, make_onnx
from inference.onnx.session import library_path, session

__all__ = ["KINDS", "Way", "compare", "export_onnx", "library_path", "make_onnx", "session"]
