"""Every kind of file in onnxruntime against the model in float64, for batches of other sizes."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from benchmarks.networks import NETWORKS, prune_
from inference.capture import capture
from inference.onnx import make_onnx, session
from tests.inference.models import CASES
from tests.inference.onnx.running import KINDS, assert_close, draw, feed, in_float64, run
from tests.inference.test_capture_transformers import bert, gpt2, mobilenet

# The others have the same layers, more of them.
SOME_NETWORKS = sorted(set(NETWORKS) - {"vgg_16", "vgg_19", "resnet_18"})


def check(model, example, batches):
    graph = capture(model, example)
    sessions = [session(make_onnx(graph, example, kind)) for kind in KINDS]
    for inputs in batches:
        expected = in_float64(model, inputs)
        for opened in sessions:
            assert_close(feed(opened, inputs), expected)


@pytest.mark.parametrize("name", CASES)
def test_all_layers_and_operators(name):
    torch.manual_seed(0)
    case = CASES[name]
    model = case.model().eval()
    check(model, draw(case.shapes, 2), [draw(case.shapes, batch, batch) for batch in (1, 3, 64)])


@pytest.mark.parametrize("name", SOME_NETWORKS)
def test_networks(name):
    build, shape = NETWORKS[name]
    model = prune_(build(0), 0.9)
    check(model, draw([shape], 1), [draw([shape], batch, batch) for batch in (1, 3)])


@pytest.mark.parametrize("build", [bert, gpt2, mobilenet])
def test_models_of_transformers(build):
    torch.manual_seed(0)
    model = build().eval()
    batches = [torch.randint(0, 50, (batch, 7)) for batch in (1, 3)]
    if build is mobilenet:
        batches = [torch.randn(batch, 3, 32, 32) for batch in (1, 3)]
    check(model, [batches[0]], [[x] for x in batches])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opset", [20, 21, 23])
def test_opsets(kind, opset):
    build, shape = NETWORKS["lenet_5"]
    model = prune_(build(0), 0.9)
    (x,) = draw([shape], 3)
    proto = make_onnx(model, x, kind, opset=opset)
    assert {each.domain: each.version for each in proto.opset_import}[""] == opset
    assert_close(run(proto, [x]), in_float64(model, [x]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_is_open_and_the_rest_is_stated(kind):
    build, shape = NETWORKS["lenet_5"]
    proto = make_onnx(build(0), torch.zeros(4, *shape), kind)
    for value, rest in ((proto.graph.input[0], shape), (proto.graph.output[0], (10,))):
        dims = value.type.tensor_type.shape.dim
        assert dims[0].dim_param == "batch"
        assert tuple(dim.dim_value for dim in dims[1:]) == rest


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch(kind):
    build, shape = NETWORKS["lenet_300_100"]
    (found,) = run(make_onnx(build(0), torch.zeros(1, *shape), kind), [torch.zeros(0, *shape)])
    assert found.shape == (0, 10)


class Recurrent(nn.Module):
    """Several layers, both directions, with states given and not."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(8, 3, num_layers=2, bias=False)
        self.group = nn.GroupNorm(2, 6)

    def forward(self, x):
        y, (state, _) = self.lstm(x)
        z, last = self.gru(y.transpose(0, 1))
        normed = self.group(torch.cat((z, z), -1).permute(1, 2, 0))
        return normed, state.transpose(0, 1), last.transpose(0, 1), y.cumsum(1)[:, -1]


def test_recurrent_layers_and_groups():
    torch.manual_seed(0)
    model = Recurrent().eval()
    check(model, draw([(6, 5)], 2), [draw([(6, 5)], batch, batch) for batch in (1, 3)])


class Arithmetic(nn.Module):
    """Comparisons, masks, powers, reductions, and what is written into."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        y = self.fc(x)
        mask = (y > 0) & (y.abs() <= 1.5) | y.eq(0)
        z = torch.where(mask, y**2, y.pow(3) / 2) - (1 - y)
        z = z.masked_fill(~mask, 0.25) * torch.rsqrt(y.square() + 1)
        parts = torch.unbind(z.view(-1, 2, 3), 1)
        w = torch.stack(parts, 2).amax(2) + z.view(-1, 2, 3).sum((1, 2), keepdim=True)[:, 0]
        filled = torch.zeros_like(z)
        filled[:, 2:4] = z[:, :2].clamp(-0.5, 0.5)
        return w, filled, torch.maximum(y, z).mean(1, keepdim=True), y.triu() if y.dim() > 2 else y.exp()


def test_arithmetic():
    torch.manual_seed(0)
    check(Arithmetic().eval(), draw([(6,)], 2), [draw([(6,)], batch, batch) for batch in (1, 3, 64)])


def test_arithmetic_of_truth_values():
    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            y = self.fc(x)
            small, positive = y.abs() < 0.5, y > 0
            either = (small + positive) * torch.maximum(small, ~positive)
            return y * (small * positive), y * either, y * torch.minimum(small, positive)

    torch.manual_seed(0)
    check(Masks().eval(), draw([(6,)], 2), [draw([(6,)], batch, batch) for batch in (1, 64)])


def test_a_power_for_each_element():
    class Powers(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)
            self.register_buffer("exponents", torch.tensor([2.0, 0.5, 1.0, 3.0]))

        def forward(self, x):
            return self.fc(x).abs() ** self.exponents

    torch.manual_seed(0)
    check(Powers().eval(), draw([(6,)], 2), [draw([(6,)], batch, batch) for batch in (1, 3)])


def test_float16_models_compute_in_float32():
    model = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3)).half().eval()
    x = torch.randn(5, 8)
    for kind in KINDS:
        proto = make_onnx(model, x.half(), kind)
        assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        (found,) = run(proto, [x])
        model.double()
        with torch.no_grad():
            assert_close([found], [model(x.double())])
        model.half()
