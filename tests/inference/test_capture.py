"""A captured graph computes what the model does, whatever way the model says it."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from benchmarks.networks import NETWORKS, prune_
from inference.capture import capture
from inference.graph import Activation, Affine, Conv2d, Linear, Reshape, TorchOp
from inference.interpret import run
from tests.inference.models import CASES, Twice


def build(name):
    torch.manual_seed(0)
    return CASES[name].model().eval()


def examples(shapes, batch, dtype=torch.float32):
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.randn(batch, *shape, generator=generator).to(dtype) for shape in shapes)


def assert_computes(graph, model, shapes, batches=(1, 2, 3, 7)):
    """Compare with a float64 run of the model to 1e-5 in norm; leaves the model in float64."""
    model.double().eval()
    for batch in batches:
        xs = examples(shapes, batch)
        with torch.no_grad():
            expected = model(*(x.double() for x in xs))
        expected = (expected,) if isinstance(expected, torch.Tensor) else tuple(expected)
        got = run(graph, xs)
        assert [y.shape for y in got] == [y.shape for y in expected]
        for y, truth in zip(got, expected, strict=True):
            assert y.dtype == torch.float32
            assert (y - truth).norm() <= 1e-5 * truth.norm()


@pytest.mark.parametrize("name", CASES)
def test_small_models(name):
    case = CASES[name]
    graph = capture(build(name), examples(case.shapes, 1))
    kinds = Counter(type(node).__name__ for node in graph.nodes)
    del kinds["TorchOp"]
    assert kinds == case.nodes
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    assert_computes(graph, build(name), case.shapes)


# How many of the layers of each, with BatchNorms folded; what else there is has no layer of its own.
LAYERS = {
    "lenet_300_100": {Linear: 3, TorchOp: 0},
    "lenet_5": {Linear: 2, Conv2d: 2, TorchOp: 0},
    "vgg_16": {Linear: 1, Conv2d: 13, Affine: 0, TorchOp: 0},
    "vgg_19": {Linear: 1, Conv2d: 16, Affine: 0, TorchOp: 0},
    "resnet_18": {Linear: 1, Conv2d: 20, Affine: 0, TorchOp: 0},
    "preact_resnet": {Linear: 1, Conv2d: 8, Affine: 4, TorchOp: 0},
    "mobilenet": {Linear: 1, Conv2d: 9, Affine: 0, TorchOp: 0},
    "densenet": {Linear: 1, Conv2d: 8, Affine: 8, TorchOp: 0},
    # Each of the four: two norms, attention, and what splits, turns and joins the heads.
    "transformer_encoder": {Linear: 16, TorchOp: 4 * (2 + 1 + 8)},
}


@pytest.mark.parametrize("name", LAYERS)
def test_networks(name):
    network = NETWORKS[name]
    model = prune_(network.build(0), 0.9)
    graph = capture(model, torch.zeros(1, *network.shape))
    kinds = Counter(type(node) for node in graph.nodes)
    assert {kind: kinds[kind] for kind in LAYERS[name]} == LAYERS[name]
    assert_computes(graph, model, (network.shape,))


def test_zeros_stay_zeros():
    model = prune_(NETWORKS["mobilenet"].build(0), 0.9)
    graph = capture(model, torch.zeros(1, 3, 32, 32))
    layers = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for weight, layer in zip(layers, graph.layers(), strict=True):
        assert torch.equal(weight == 0, layer.weight == 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_become_float32(dtype):
    class Casts(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            return torch.softmax(self.fc(x).to(dtype).cos(), 1) * torch.ones(5, dtype=dtype)

    torch.manual_seed(0)
    model = Casts().to(dtype)
    graph = capture(model, torch.zeros(1, 6, dtype=dtype))
    (layer,) = graph.layers()
    assert layer.weight.dtype == layer.bias.dtype == torch.float32
    assert torch.equal(layer.weight, model.fc.weight.float())
    model.double()
    (x,) = examples([(6,)], 3)
    (y,) = run(graph, [x])
    truth = torch.softmax(model.fc(x.double()).cos(), 1)
    assert y.dtype == torch.float32
    assert (y - truth).norm() <= 1e-5 * truth.norm()


def test_constants_are_copies_made_once():
    model = build("twice")
    graph = capture(model, torch.zeros(2, 6))
    first, again, tied = graph.layers()
    assert first.weight is again.weight is tied.weight
    before = first.weight.clone()
    with torch.no_grad():
        model.fc.weight.zero_()
    assert torch.equal(first.weight, before)
    assert not first.weight.requires_grad


def test_names_are_the_modules():
    graph = capture(build("twice"), torch.zeros(2, 6))
    assert [node.name for node in graph.nodes] == ["fc", "fc#2", "tied", "sigmoid"]
    graph = capture(NETWORKS["preact_resnet"].build(0), torch.zeros(1, 3, 32, 32))
    assert [layer.name for layer in graph.layers()][:4] == ["0", "1.conv1", "1.conv2", "2.shortcut"]


class Stateful(nn.Module):
    """Has everything that an export might touch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.frozen = nn.BatchNorm2d(4).eval()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.fail = False

    def forward(self, x):
        y = self.frozen(self.bn(self.conv(x))).flatten(2).transpose(1, 2)
        if self.fail:
            raise RuntimeError("no")
        return self.attention(y, y, y)[0]


@pytest.mark.parametrize("fail", [False, True])
def test_the_model_is_left_as_it_was(fail):
    model = Stateful().train()
    model.frozen.eval()
    model.conv.bias.requires_grad_(False)
    model.fail = fail
    modes = [module.training for module in model.modules()]
    attributes = [sorted(vars(module)) for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    fast = torch.backends.mha.get_fastpath_enabled()
    if fail:
        with pytest.raises(ValueError, match="no"):
            capture(model, torch.zeros(1, 3, 6, 6))
    else:
        graph = capture(model, torch.zeros(1, 3, 6, 6))
        assert_computes(graph, copy.deepcopy(model), [(3, 6, 6)])
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert [module.training for module in model.modules()] == modes
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(p.grad is None for p in model.parameters())


def test_the_example_is_left_as_it_was():
    class Writes(Twice):
        def forward(self, x):
            return super().forward(x.add_(1))

    x = torch.ones(2, 6, requires_grad=False)
    graph = capture(Writes(), x)
    run(graph, [x])
    assert torch.equal(x, torch.ones(2, 6))


# Importing torch's own compiler warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is:DeprecationWarning")
def test_a_compiled_model_is_its_original():
    model = build("twice")
    graph = capture(torch.compile(model), torch.zeros(2, 6))
    assert_computes(graph, model, [(6,)])


def test_a_forward_of_any_number_of_arguments():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, *xs):
            return self.fc(sum(xs))

    torch.manual_seed(0)
    model = Sum()
    for shapes in ([(6,)], [(6,), (6,)]):
        graph = capture(model.float(), examples(shapes, 1))
        assert_computes(graph, model, shapes)


def test_constant_output():
    class Constant(Twice):
        def forward(self, x):
            return x, self.fc.weight * 2

    model = Constant()
    graph = capture(model, torch.zeros(2, 6))
    x = torch.ones(3, 6)
    assert torch.equal(run(graph, [x])[1], model.fc.weight * 2)


def test_values_in_another_layout_come_back_under_names_of_their_own():
    graph = capture(build("tokens first"), torch.zeros(1, 5, 4))
    last = graph.nodes[-1]
    assert (last.target, last.name.endswith(".swapped")) == ("aten.transpose.int", True)
    assert graph.outputs[1] == last.output


def test_fused_values_that_something_else_reads_stay():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x):
            y = self.fc(x)
            z = self.bn(y)
            return y, z, torch.relu(z), z.view(-1, 2, 2).reshape(-1, 4, 1)

    torch.manual_seed(0)
    model = Shared()
    nn.init.normal_(model.bn.running_mean)
    graph = capture(model, torch.zeros(2, 4))
    kinds = [type(node) for node in graph.nodes]
    assert kinds[:2] == [Linear, Affine]
    assert kinds.count(Reshape) == 1
    assert_computes(graph, model, [(4,)])


def test_activation_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.3), nn.Linear(4, 4), nn.GELU("tanh"))
    first, second = capture(model, torch.zeros(2, 4)).layers()
    assert first.activation == Activation("leaky_relu", 0.3)
    assert second.activation == Activation("gelu_tanh")
