"""The dense runtimes that sparse inference is measured against, from NumPy to NumPy."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import nn

Array = np.ndarray
Call = Callable[[Array], Array]

TORCH_COMPILE = "torch.compile"


def torch_eager(model: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    """Run a model by torch, on as many threads as torch has."""

    def call(x: Array) -> Array:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

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
    import openvino  # of the extra bench alone: other runtimes are timed without it

    core = openvino.Core()
    read = core.read_model(io.BytesIO(onnx_bytes(model, example)))
    read.reshape(list(example.shape))
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    request = core.compile_model(read, "CPU", options).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def dense_runtimes(
    model: nn.Module, example: Array, *, threads: int = 1, compiled: bool = False
) -> dict[str, Call]:
    """Build all of them, by name.

    Args:
        model: In eval mode.
        example: Of the batch size to be measured.
        threads: Of each; torch's are those of the whole process, which is up to the caller.
        compiled: Whether `TORCH_COMPILE` is among them, which takes seconds to minutes to compile.
    """
    runtimes = {
        "torch": torch_eager(model),
        "onnxruntime": onnx_runtime(model, example, threads),
        "OpenVINO": open_vino(model, example, threads),
    }
    if compiled:
        runtimes[TORCH_COMPILE] = torch_eager(torch.compile(model, dynamic=False))
    return runtimes
