"""The dense runtimes that sparse inference is measured against, one thread each, from NumPy to NumPy."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import openvino
import torch
from torch import nn

Array = np.ndarray
Call = Callable[[Array], Array]


def torch_eager(model: nn.Module) -> Call:
    """Run a model by torch."""

    def call(x: Array) -> Array:
        with torch.inference_mode():
            y: torch.Tensor = model(torch.from_numpy(x))
            return y.numpy()

    return call


def onnx_bytes(model: nn.Module, example: Array) -> bytes:
    """Export a model for any batch size."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter without dynamo is deprecated, and needs no onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.from_numpy(example),),
            file,  # type: ignore[arg-type]  # the old exporter writes to files too
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
        )
    return file.getvalue()


def onnx_runtime(model: nn.Module, example: Array, threads: int = 1) -> Call:
    """Run a model by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_bytes(model, example), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": x})[0]


def open_vino(model: nn.Module, example: Array, threads: int = 1) -> Call:
    """Run a model by OpenVINO in float32, for the example's batch size."""
    core = openvino.Core()
    read = core.read_model(io.BytesIO(onnx_bytes(model, example)))
    read.reshape(list(example.shape))
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    request = core.compile_model(read, "CPU", options).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def dense_runtimes(model: nn.Module, example: Array) -> dict[str, Call]:
    """Build all of them, by name."""
    return {
        "torch": torch_eager(model),
        "onnxruntime": onnx_runtime(model, example),
        "OpenVINO": open_vino(model, example),
    }
