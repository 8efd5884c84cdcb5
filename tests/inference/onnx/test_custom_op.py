"""The engine as an operator of onnxruntime."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import inference
from benchmarks.networks import NETWORKS, prune_
from inference.onnx import library_path, make_onnx, session
from inference.onnx.custom_op import ATTRIBUTE, DOMAIN, OP
from inference.onnx.recording import encode
from tests.inference.onnx.running import draw, run


def lenet(zeros=0.95):
    return prune_(NETWORKS["lenet_300_100"][0](0), zeros)


@pytest.fixture(scope="module")
def proto():
    return make_onnx(lenet(), torch.zeros(1, 784), "custom-op")


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5", "preact_resnet", "mobilenet", "densenet"])
def test_one_node_and_the_bits_of_the_engine(name):
    build, shape = NETWORKS[name]
    model = prune_(build(0), 0.9)
    (x,) = draw([shape], 35)
    made = make_onnx(model, x, "custom-op")
    assert [(node.domain, node.op_type) for node in made.graph.node] == [(DOMAIN, OP)]
    compiled = inference.compile(model, x, plan="static")
    for batch in (1, 3, 35):
        expected = compiled(x[:batch]).numpy()
        for threads in (1, 2):
            np.testing.assert_array_equal(run(made, [x[:batch]], threads=threads)[0], expected)


def test_what_the_engine_has_no_kernel_for_stands_between():
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4)).eval()
    made = make_onnx(model, torch.zeros(1, 6), "custom-op")
    assert [node.op_type for node in made.graph.node] == [OP, "LayerNormalization", OP]


def test_weights_without_zeros_take_no_space(proto):
    dense = make_onnx(lenet(), torch.zeros(1, 784), "dense")
    # 6 of 4 bytes for one weight in 20.
    assert proto.ByteSize() < dense.ByteSize() * 0.1


def test_a_file_opens_with_plain_onnxruntime_and_the_library(tmp_path, proto):
    onnx.save(proto, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path()))
    opened = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    (x,) = draw([(784,)], 3)
    np.testing.assert_array_equal(opened.run(None, {"input": x.numpy()})[0], run(proto, [x])[0])


def test_eight_threads_on_one_session(proto):
    opened = session(proto)
    inputs = [draw([(784,)], 33, seed)[0].numpy() for seed in range(8)]
    expected = [opened.run(None, {"input": x})[0] for x in inputs]
    wrong: list[int] = []

    def work(index):
        for _ in range(100):
            if not np.array_equal(opened.run(None, {"input": inputs[index]})[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sessions_come_and_go(proto):
    (x,) = draw([(784,)], 2)
    first = run(proto, [x])[0]
    for threads in (1, 2, 3, 1, 2):
        np.testing.assert_array_equal(run(proto, [x], threads=threads)[0], first)


@pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the list of loaded libraries is Linux's"
)
def test_the_library_stays_for_its_threads(tmp_path, proto):
    """They sleep in it when the last session has gone; a thread that began late found no code."""
    onnx.save(proto, tmp_path / "model.onnx")
    code = (
        "import sys, numpy, inference.onnx; "
        "opened = inference.onnx.session(sys.argv[1], threads=2); "
        "opened.run(None, {'input': numpy.zeros((64, 784), 'f')}); "
        "del opened; "
        "assert 'dwf_onnxruntime' in open('/proc/self/maps').read()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.onnx")], check=True)


def with_open_shapes(proto):
    """The model, without what onnxruntime itself would check."""
    changed = onnx.ModelProto.FromString(proto.SerializeToString())
    for value in changed.graph.input:
        value.type.tensor_type.ClearField("shape")
    return changed


@pytest.mark.parametrize("shape", [(2, 783), (784,), (2, 784, 1), (2, 28, 28), ()])
def test_inputs_of_other_shapes_are_refused(proto, shape):
    with pytest.raises(Exception, match=r"an input has shape \[.*\], expected \[batch, 784\]"):
        run(with_open_shapes(proto), [torch.zeros(shape)])


def test_batches_of_different_sizes_are_refused():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(8, 6)

        def forward(self, x, y):
            return torch.relu(self.first(x) + self.second(y))

    made = make_onnx(Both().eval(), draw([(4,), (8,)], 2), "custom-op")
    with pytest.raises(Exception, match="batches of different sizes"):
        run(with_open_shapes(made), [torch.zeros(2, 4), torch.zeros(3, 8)])


def test_other_dtypes_are_refused(proto):
    changed = onnx.ModelProto.FromString(proto.SerializeToString())
    changed.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(Exception, match=r"(?i)type"):
        session(changed)


@pytest.mark.parametrize("entry", ["0", "-1", "two", "1025", "3x", ""])
def test_threads_are_checked_by_the_library(entry):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("dwf.threads", entry)
    with pytest.raises(Exception, match=r"dwf\.threads is .*; give a number from 1 to 1024"):
        options.register_custom_ops_library(str(library_path()))


def test_the_library_needs_no_python():
    # Only what any process has: it loads where there is no interpreter.
    code = (
        "import ctypes, sys; library = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_LOCAL | 2); "
        "library.RegisterCustomOps"
    )
    subprocess.run([sys.executable, "-c", code, str(library_path())], check=True)
    symbols = library_path().read_bytes()
    assert b"PyObject" not in symbols
    assert b"RegisterCustomOps" in symbols


class Base(ctypes.Structure):
    """onnxruntime's OrtApiBase, as a process has it that loads the library."""

    _fields_ = (
        ("get_api", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)),
        ("get_version", ctypes.CFUNCTYPE(ctypes.c_void_p)),
    )


@pytest.mark.parametrize("version", [b"1.17.3", b"0.9", b"", b"nonsense"])
def test_an_onnxruntime_that_is_too_old_is_told_so(version):
    """No such wheel installs beside this NumPy, so the test gives the table that one would."""
    said: list[bytes] = []
    status = ctypes.create_string_buffer(1)

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    def create_status(code, message):
        said.append(message)
        return ctypes.addressof(status)

    table = (ctypes.c_void_p * 300)(ctypes.cast(create_status, ctypes.c_void_p).value)
    text = ctypes.create_string_buffer(version)
    get_api = Base._fields_[0][1](lambda wanted: ctypes.addressof(table) if wanted <= 17 else None)
    base = Base(get_api, Base._fields_[1][1](lambda: ctypes.addressof(text)))
    register = ctypes.CDLL(str(library_path())).RegisterCustomOps
    register.argtypes, register.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.c_void_p
    assert register(None, ctypes.addressof(base)) == ctypes.addressof(status)
    (message,) = said
    assert b"too old; 1.18 or later is needed" in message


def test_arguments_that_no_call_has():
    with pytest.raises(TypeError, match="cannot have an argument of type complex"):
        encode(1j)
    with pytest.raises(TypeError, match="ndarray"):
        encode(np.zeros(2))


def test_the_attribute_is_what_is_stated(proto):
    (attribute,) = proto.graph.node[0].attribute
    assert (attribute.name, attribute.type) == (ATTRIBUTE, onnx.AttributeProto.STRING)
    assert attribute.s.startswith(b"DWFP")
