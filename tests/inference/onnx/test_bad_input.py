"""What exporting refuses, and what it says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import inference
from inference.files import write_bytes
from inference.onnx import library_path, make_onnx, session
from inference.onnx import session as session_of_package


def linear():
    return nn.Linear(4, 2).eval()


X = torch.zeros(1, 4)


@pytest.mark.parametrize("kind", ["fast", "custom_op", "", None, 3])
def test_unknown_kinds(kind, tmp_path):
    with pytest.raises(ValueError, match=r"kind must be one of .*'compact'"):
        inference.export_onnx(linear(), X, tmp_path / "model.onnx", kind)


@pytest.mark.parametrize("opset", [19, 1000, -1, "20", 20.0, None])
def test_opsets_out_of_range(opset, tmp_path):
    with pytest.raises(ValueError, match="opset must be an integer from 20"):
        inference.export_onnx(linear(), X, tmp_path / "model.onnx", opset=opset)


def test_operators_without_a_counterpart_are_named_with_their_module():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.erfinv(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)
            self.odd = Odd()

        def forward(self, x):
            return self.odd(self.fc(x))

    for kind in ("dense", "compact", "sparse", "custom-op"):
        with pytest.raises(ValueError, match=r"aten\.erfinv\.default in 'odd' cannot be exported"):
            make_onnx(Outer().eval(), X, kind)


def test_dtypes_without_a_counterpart_are_named():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            y = self.fc(x)
            return y + torch.floor(y.argmax(1, keepdim=True))

    with pytest.raises(ValueError, match=r"no counterpart in ONNX for its dtypes.*Floor"):
        make_onnx(Whole().eval(), X)


def test_options_without_a_counterpart_are_named():
    class Rounding(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return nn.functional.softplus(self.fc(x), beta=2.0)

    with pytest.raises(ValueError, match=r"aten\.softplus\.default.*only beta = 1"):
        make_onnx(Rounding().eval(), X)


@pytest.mark.parametrize(
    ("model", "example", "error", "message"),
    [
        ("model", X, TypeError, "must be a torch.nn.Module"),
        (linear(), np.zeros((1, 4)), TypeError, "example must be a tensor"),
        (linear(), (), ValueError, "batch of 1 or more"),
        (nn.ReLU(), X, ValueError, "no parameters"),
    ],
)
def test_models_and_examples_are_checked(model, example, error, message):
    with pytest.raises(error, match=message):
        make_onnx(model, example)


def test_examples_for_another_graph():
    from inference.capture import capture

    with pytest.raises(ValueError, match="takes 1 inputs, the example has 2"):
        make_onnx(capture(linear(), X), (X, X))


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    inference.export_onnx(linear(), X, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_bytes(path, b"other")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        inference.export_onnx(linear(), X, tmp_path / "no" / "model.onnx")


def test_the_model_is_left_as_it_is(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference.export_onnx(model, X, tmp_path / "model.onnx", "custom-op")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True])
def test_threads(threads):
    with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
        session(make_onnx(linear(), X), threads=threads)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        session(tmp_path / "model.onnx")


def test_without_a_compiled_library(monkeypatch, tmp_path):
    module = sys.modules[session_of_package.__module__]
    monkeypatch.setattr(module, "__file__", str(tmp_path / "onnx" / "session.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"without a C\+\+ compiler.*kind='compact'"):
        library_path()
    with pytest.raises(FileNotFoundError, match=r"without a C\+\+ compiler"):
        session(make_onnx(linear(), X, "custom-op"))
    (y,) = session(make_onnx(linear(), X, "compact")).run(None, {"input": X.numpy()})
    assert y.shape == tuple(linear()(X).shape)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra(missing, tmp_path):
    code = f"""
import sys
sys.modules[{missing!r}] = None  # as if it were not installed
import torch, inference
model, x = torch.nn.Linear(4, 2), torch.zeros(1, 4)
try:
    inference.export_onnx(model, x, {str(tmp_path / "model.onnx")!r})
    import inference.onnx
    inference.onnx.session({str(tmp_path / "model.onnx")!r})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"needs the package {missing!r}" in done.stdout
    assert "pip install 'dwf-optim[onnx]'" in done.stdout


def test_importing_inference_imports_no_onnx():
    code = "import sys, inference; assert not {'onnx', 'onnxruntime'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
