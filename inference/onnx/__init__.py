"""Models as ONNX files, and running them in onnxruntime. Needs the extra ``onnx``."""

from inference.onnx.export import KINDS, export_onnx, make_onnx

__all__ = ["KINDS", "export_onnx", "make_onnx"]
