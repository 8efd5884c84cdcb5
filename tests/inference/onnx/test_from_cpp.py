"""The operator in a program without Python, as a server in C++ has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.networks import NETWORKS, prune_
from inference.onnx import library_path, make_onnx
from tests.inference.onnx.running import draw, run

HERE = Path(__file__).parent
SOURCES = Path(__file__).parents[3] / "inference" / "csrc"


def test_a_program_in_cpp_computes_the_same(tmp_path):
    proto = make_onnx(prune_(NETWORKS["lenet_300_100"][0](0), 0.95), torch.zeros(1, 784), "custom-op")
    onnx.save(proto, tmp_path / "model.onnx")
    (x,) = draw([(784,)], 33)
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    program = tmp_path / "run"
    source = HERE / "from_cpp" / "run.cpp"
    subprocess.run(
        [compiler, "-std=c++17", f"-I{SOURCES}", str(source), "-o", str(program), "-ldl"], check=True
    )
    (runtime,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    names = [proto.graph.input[0].name, proto.graph.output[0].name]
    made = subprocess.run(
        [program, runtime, library_path(), tmp_path / "model.onnx", *names, "33", "784"],
        input=x.numpy().tobytes(),
        capture_output=True,
        check=True,
    )
    found = np.frombuffer(made.stdout, np.float32).reshape(33, 10)
    np.testing.assert_array_equal(found, run(proto, [x])[0])
