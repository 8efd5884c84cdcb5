"""`shrink` takes dead groups out of modules, and nothing else changes."""

from __future__ import annotations

import copy
import functools
import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import inference
from benchmarks.networks import NETWORKS, BasicBlock, PreActBlock
from inference.capture import trace
from inference.onnx.session import session
from inference.shrinking.inputs import SelectedLinear
from inference.shrinking.plan import Plan
from tests.inference.killing import kill_, shares

# In float64: sums of hundreds of terms in another order, through up to a dozen layers.
EXACT = 1e-11


def lenet():
    return NETWORKS["lenet_5"].build(0), (1, 28, 28)


def vgg():
    """A VGG of three stages; the smallest image has a border on every side."""
    layers, before = [], 3
    for width in (8, 12, 16):
        for _ in range(2):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU()]
    layers += [nn.Dropout(), nn.Linear(24, 10)]
    return nn.Sequential(*layers), (3, 8, 8)


def resnet():
    stem = (nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    blocks = (BasicBlock(8, 8, 1), BasicBlock(8, 16, 2), BasicBlock(16, 16, 1))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(*stem, *blocks, *head), (3, 8, 8)


def preact():
    blocks = (PreActBlock(8, 8, 1), PreActBlock(8, 16, 2), PreActBlock(16, 16, 1))
    head = (nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), *blocks, *head), (3, 8, 8)


def mobilenet():
    return NETWORKS["mobilenet"].build(0), (3, 16, 16)


def densenet():
    return NETWORKS["densenet"].build(0), (3, 16, 16)


def transformer():
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(6, 16), encoder, nn.Linear(16, 5)), (7, 6)


BUILDERS = [lenet, vgg, resnet, preact, mobilenet, densenet, transformer]


def drawn(shape, batch=4, dtype=torch.float64):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)).to(dtype)


def sizes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@functools.cache
def traced(build):
    """Trace a model once: the graph's constants are the model's own tensors."""
    torch.manual_seed(0)
    model, shape = build()
    model = model.double().eval()
    return model, shape, copy.deepcopy(model.state_dict()), trace(model, drawn(shape, 2)).graph


def killed_and_shrunk(build, seed, *kill):
    model, _, state, graph = traced(build)
    model.load_state_dict(state)
    kill_(model, seed, *kill)
    small = copy.deepcopy(model)
    Plan(model, graph).apply_(small, {})
    return model, small


@pytest.mark.parametrize("build", BUILDERS)
@given(st.integers(0, 2**32 - 1), shares, shares, shares)
def test_whatever_groups_die(build, seed, outputs, inputs, heads):
    model, small = killed_and_shrunk(build, seed, outputs, inputs, heads)
    x = drawn(traced(build)[1])
    with torch.no_grad():
        truth, found = model(x), small(x)
    assert (found - truth).abs().max() <= EXACT * truth.abs().max().clamp(min=1)
    # Parameters keep their names, and none grows; a layer without a bias may get one.
    before, after = sizes(model), sizes(small)
    assert all(math.prod(after[name]) <= math.prod(shape) for name, shape in before.items())
    assert all(name in before or name.endswith(".bias") for name in after)


@pytest.mark.parametrize("build", BUILDERS)
def test_models(build):
    torch.manual_seed(0)
    model, shape = build()
    kill_(model.eval(), 2, 0.6, 0.3, 0.6)
    before = copy.deepcopy(model.state_dict())
    small, report = inference.shrink_with_report(model, drawn(shape, 2, torch.float32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    x = drawn(shape)
    with torch.no_grad():
        truth, found = (copy.deepcopy(m).double()(x) for m in (model, small))
    # Biases and merged weights are rounded once more, to half an ulp of 2^-23, over a dozen layers.
    assert (found - truth).abs().max() <= 1e-5 * truth.abs().max()
    assert 0 < report.certificate.normwise <= 1e-5
    assert report.certificate.batches == 5
    assert report.parameters == tuple(sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert report.parameters[1] < 0.7 * report.parameters[0]
    assert report.flops[1] < 0.7 * report.flops[0]
    assert {w.name: w.after for w in report.weights} == {
        name: tuple(p.shape) for name, p in small.named_parameters() if p.dim() > 1
    }
    assert json.loads(json.dumps(report.to_json()))["parameters"] == list(report.parameters)
    again, second = inference.shrink_with_report(small, drawn(shape, 2, torch.float32))
    assert sizes(again) == sizes(small)
    assert second.flops[0] == report.flops[1]


def lives(model):
    """Tell whether every layer has a unit that is alive: else nothing behind it is, or before it."""
    return all(module.weight.any() for module in model if isinstance(module, nn.Linear | nn.Conv2d))


@given(st.integers(0, 2**32 - 1))
def test_what_is_left_in_a_chain_are_the_filters_that_live(seed):
    """Without padding all constants go: each layer keeps the units with weights, or one."""
    model, small = killed_and_shrunk(lenet, seed, 0.7)
    assume(lives(model))
    layers = [module for module in model if hasattr(module, "weight")]
    after = [module for module in small if hasattr(module, "weight")]
    alive = [max(1, int(layer.weight.flatten(1).any(1).sum())) for layer in layers]
    assert [len(layer.weight) for layer in after] == [*alive[:-1], 10]
    assert (after[0].out_channels, after[1].in_channels) == (alive[0], alive[0])
    assert after[2].in_features == 16 * alive[1]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.6]))
def test_behind_padding_one_channel_holds_all_constants(seed, share):
    model, small = killed_and_shrunk(vgg, seed, share)
    assume(lives(model))
    # The last convolution is read by a Linear, the one before by one with padding.
    convs = [(m, n) for m, n in zip(model, small, strict=True) if isinstance(m, nn.Conv2d)]
    for k, (before, after) in enumerate(convs):
        alive = int(before.weight.flatten(1).any(1).sum())
        assert max(1, alive) <= after.out_channels <= alive + 1 or k == 0
        assert after.out_channels == max(1, alive) or k < len(convs) - 1


def test_a_constant_stays_exact_next_to_the_border():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)).double()
    with torch.no_grad():
        model[0].weight[1:] = 0
        model[0].bias.copy_(torch.tensor([0.3, 2.0, 0.5, -1.0]))
    small, report = inference.shrink_with_report(model, torch.zeros(1, 1, 5, 5).double())
    # Of the two that are not zero behind the ReLU the larger one stays.
    assert torch.equal(small[0].bias, model[0].bias[:2])
    torch.testing.assert_close(
        small[2].weight[:, 1], model[2].weight[:, 1] + model[2].weight[:, 2] / 4, rtol=1e-15, atol=0
    )
    assert [(s.name, s.what, s.count) for s in report.stuck] == [("0", "outputs", 1)]
    assert "zero padding of '2'" in report.stuck[0].reason
    x = drawn((1, 5, 5))
    torch.testing.assert_close(small(x), model(x), rtol=1e-14, atol=1e-14)


def test_a_sum_keeps_the_channels_that_live_in_either_term():
    torch.manual_seed(0)
    model = nn.Sequential(BasicBlock(4, 6, 1), nn.Conv2d(6, 2, 1)).eval()
    with torch.no_grad():
        for norm in (model[0].bn2, model[0].shortcut[1]):
            norm.bias.copy_(torch.tensor([1.0, 1, 1, 1, 1, 1]))
        model[0].conv2.weight[[0, 1, 2]] = 0
        model[0].shortcut[0].weight[[1, 2, 3]] = 0
    small, report = inference.shrink_with_report(model, torch.zeros(1, 4, 5, 5))
    assert small[0].conv2.out_channels == small[0].bn2.num_features == 4
    assert small[0].shortcut[0].out_channels == 4
    found = {(s.name, s.count): s.reason for s in report.stuck}
    assert "'0.shortcut.0'" in found["0.conv2", 1]
    assert "'0.conv2'" in found["0.shortcut.0", 1]
    x = drawn((4, 5, 5), dtype=torch.float32)
    torch.testing.assert_close(small(x), model(x))


@pytest.mark.parametrize("build", BUILDERS)
def test_training_goes_on(build):
    """A step in train mode, with finite gradients for all that is left."""
    torch.manual_seed(0)
    model, shape = build()
    kill_(model, 1, 0.5, 0.2, 0.5).train()
    small = inference.shrink(model, drawn(shape, 2, torch.float32))
    assert all(m.training for m in small.modules())
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in small.parameters())
    optimizer = torch.optim.SGD(small.parameters(), 1e-3)
    before = copy.deepcopy(small.state_dict())
    small(drawn(shape, 8, torch.float32)).square().mean().backward()
    assert all(p.grad.shape == p.shape and p.grad.isfinite().all() for p in small.parameters())
    optimizer.step()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    for module in small.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert len(module.running_mean) == len(module.weight) == module.num_features
            assert module.num_batches_tracked == 1


@pytest.mark.parametrize("build", [lenet, resnet, mobilenet, transformer])
def test_it_is_a_model_as_any_other(build, tmp_path):
    """Saved, copied, exported, compiled, put in a file, and written as ONNX."""
    torch.manual_seed(0)
    model, shape = build()
    kill_(model.eval(), 3, 0.6, 0.2, 0.6)
    x = drawn(shape, 3, torch.float32)
    small = inference.shrink(model, x)
    with torch.no_grad():
        truth, found = model(x), small(x)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=1e-5)
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    other = copy.deepcopy(small)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(small.state_dict())
    for again in (loaded, copy.deepcopy(small), other, torch.export.export(small, (x,)).module()):
        assert torch.equal(again(x), found)
    inference.export_onnx(small, x, tmp_path / "small.onnx", kind="dense")
    (y,) = session(tmp_path / "small.onnx").run(None, {"input": x.numpy()})
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)
    sparse = inference.compile(small, x, plan="static")
    sparse.save(tmp_path / "small.dwf")
    torch.testing.assert_close(sparse(x), truth, rtol=1e-4, atol=1e-4)
    assert torch.equal(inference.load(tmp_path / "small.dwf")(x), sparse(x))


@pytest.mark.parametrize("flat", [False, True])
def test_selected_inputs(flat, tmp_path):
    torch.manual_seed(0)
    first = nn.Linear(12, 5)
    model = nn.Sequential(*([] if flat else [nn.Flatten()]), first, nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        first.weight[:, [0, 3, 4, 11]] = 0
        first.weight[2] = 0
    x = drawn((12,) if flat else (3, 4), 3, torch.float32)
    small, report = inference.shrink_with_report(model, x, select_inputs=True)
    made = next(module for module in small if isinstance(module, nn.Linear))
    assert isinstance(made, SelectedLinear)
    assert made.selected.tolist() == [1, 2, 5, 6, 7, 8, 9, 10]
    assert made.weight.shape == (4, 8)
    assert (made.in_features, made.out_features) == (8, 4)
    assert not report.stuck
    torch.testing.assert_close(small(x), model(x))
    inference.export_onnx(small, x, tmp_path / "small.onnx", kind="dense")
    (y,) = session(tmp_path / "small.onnx").run(None, {"input": x.numpy()})
    np.testing.assert_allclose(y, model(x).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inference.compile(small, x, plan="static")(x), model(x).detach())


def test_only_what_changes_is_new():
    model = nn.Sequential(*itertools.chain(*((nn.Linear(6, 6), nn.ReLU()) for _ in range(4))))
    model.requires_grad_(False)
    model[4].weight.requires_grad_(True)
    with torch.no_grad():
        model[4].weight[2] = 0
        model[4].bias.fill_(-1.0)
    small = inference.shrink(model.bfloat16(), torch.zeros(1, 6, dtype=torch.bfloat16))
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in model.parameters()]
    assert small[4].weight.shape == (5, 6)
    assert small[6].weight.shape == (6, 5)
    for k in (0, 2):
        assert torch.equal(small[k].weight, model[k].weight)
        assert small[k].weight.data_ptr() != model[k].weight.data_ptr()


@pytest.mark.gpu
def test_on_a_gpu():
    torch.manual_seed(0)
    for build in (resnet, transformer):
        model, shape = build()
        kill_(model.eval(), 2, 0.6, 0.3, 0.6).cuda()
        x = drawn(shape, 2, torch.float32)
        small = inference.shrink(model, x.cuda())
        assert {tensor.device.type for tensor in small.state_dict().values()} == {"cuda"}
        with torch.no_grad():
            torch.testing.assert_close(small(x.cuda()), model(x.cuda()), rtol=1e-3, atol=1e-3)
