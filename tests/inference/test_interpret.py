"""The interpreter against torch's own modules, and graphs copied into another dtype."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from inference.graph import ACTIVATIONS, Activation, Conv2d, Graph, Linear, Ref, TorchOp
from inference.interpret import activate, run, to_dtype


def tiny(**options):
    weight = torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 0.0]])
    node = Linear(name="fc", inputs=("x",), output="y", weight=weight, **options)
    return Graph(("x",), ("y",), (node,), {"x": (2,), "y": (3,)})


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_torchs(kind):
    x = torch.linspace(-8, 8, 33, dtype=torch.float64)
    modules = {
        "leaky_relu": torch.nn.LeakyReLU(0.2),
        "gelu_tanh": torch.nn.GELU("tanh"),
        "gelu": torch.nn.GELU(),
        "silu": torch.nn.SiLU(),
        "relu": torch.nn.ReLU(),
        "relu6": torch.nn.ReLU6(),
        "sigmoid": torch.nn.Sigmoid(),
        "tanh": torch.nn.Tanh(),
    }
    before = x.clone()
    assert torch.equal(activate(x, Activation(kind, 0.2)), modules[kind](x))
    assert torch.equal(x, before)


def test_bias_map_of_a_convolution():
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(2, 3, 5, 4, generator=generator),
        torch.randn(2, 3, 3, 3, generator=generator),
    )
    bias = torch.randn(2, 5, 4, generator=generator)
    node = Conv2d(
        name="conv", inputs=("x",), output="y", weight=weight, bias=bias, padding=(1, 1),
        activation=Activation("relu"),
    )  # fmt: skip
    graph = Graph(("x",), ("y",), (node,), {"x": (3, 5, 4), "y": (2, 5, 4)})
    (y,) = run(graph, [x])
    torch.testing.assert_close(y, torch.relu(F.conv2d(x, weight, padding=1) + bias))


def test_another_dtype():
    op = TorchOp(
        name="to", inputs=("y",), output="z", target="aten.to.dtype", args=(Ref("y"), "torch.float32")
    )
    ids = TorchOp(
        name="ids", inputs=("z",), output="w", target="aten.index_select.default",
        args=(Ref("z"), 1, torch.tensor([2, 0])),
    )  # fmt: skip
    first = tiny(bias=torch.ones(3))
    graph = Graph(("x",), ("w",), (*first.nodes, op, ids), {**first.shapes, "z": (3,), "w": (2,)})
    double = to_dtype(graph, torch.float64)
    (y,) = run(double, [torch.tensor([[1 / 3, 1 / 7]], dtype=torch.float64)])
    assert y.dtype == torch.float64
    assert y.tolist() == [[1.0, 1 / 3 - 2 / 7 + 1]]
    assert double.nodes[0].weight is not graph.nodes[0].weight
    assert run(graph, [torch.tensor([[1.0, 1.0]])])[0].dtype == torch.float32


def test_constants_shared_between_nodes_stay_shared():
    weight = torch.eye(2)
    nodes = [Linear(name=f"fc{i}", inputs=(f"v{i}",), output=f"v{i + 1}", weight=weight) for i in (0, 1)]
    graph = Graph(("v0",), ("v2",), tuple(nodes), {"v0": (2,), "v1": (2,), "v2": (2,)})
    first, second = to_dtype(graph, torch.float64).nodes
    assert first.weight is second.weight


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "takes 1 inputs, got 0"),
        ([torch.zeros(1, 3)], r"input 'x' must have shape \['batch', 2\], got \[1, 3\]"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    with pytest.raises(ValueError, match=message):
        run(tiny(), inputs)


@pytest.mark.parametrize(
    "target", ["aten.nothing.default", "operator.call", "torch.save", "os.system", ""]
)
def test_operators_that_are_none(target):
    op = TorchOp(name="op", inputs=(), output="y", target=target)
    graph = Graph((), ("y",), (op,), {"y": None})
    with pytest.raises(ValueError, match=f"torch has no operator '{target}'"):
        run(graph, [])


def test_an_empty_batch():
    (y,) = run(tiny(), [torch.zeros(0, 2)])
    assert y.shape == (0, 3)
