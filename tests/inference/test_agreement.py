"""What `compile` sees when it runs the model next to what it made of it; and weights of 16 bits."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import inference
from benchmarks.networks import prune_
from inference.agreement import certify_model
from inference.capture import capture
from inference.interpret import run
from inference.origin import Origin
from inference.rounding import round_weights


class Head(nn.Module):
    """A layer, and what is done with its outputs."""

    def __init__(self, after=lambda y: y):
        super().__init__()
        torch.manual_seed(0)
        self.fc = prune_(nn.Sequential(nn.Linear(20, 8)), 0.5)
        self.after, self.calls = after, 0

    def forward(self, x):
        return self.after(self.fc(x))


class Counting(Head):
    def forward(self, x):
        self.calls += 1
        return self.fc(x) * self.calls


def compiled(model, example=None, **options):
    x = torch.randn(6, 20) if example is None else example
    return inference.compile(model, x, **{"plan": "static", **options})


def exporting(y):
    return y if torch.compiler.is_compiling() else 1.001 * y


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: Head(F.dropout),
            r"draws random numbers in eval mode too, in .*\(aten.native_dropout",
        ),
        (lambda: Head(torch.rand_like), "draws random numbers in eval mode too"),
        (Counting, r"something else than it computes: output 0 of norm \d.* rounding.*keeps state"),
        (lambda: Head(exporting), "something else than it computes.*is_compiling"),
    ],
)
def test_models_that_are_not_what_is_traced(model, message):
    with pytest.raises(ValueError, match=message):
        compiled(model())
    unchecked = compiled(model(), check=False)
    assert unchecked.origin.certificate is None
    assert "not compared" in str(unchecked.inspect())


def test_an_example_of_zeros_shows_nothing_but_random_inputs_do():
    def clamped(y):
        return y if torch.compiler.is_compiling() else y.clamp(max=1)

    model = Head(clamped)
    with torch.no_grad():
        model.fc[0].weight.mul_(20)
        model.fc[0].bias.zero_()
    with pytest.raises(ValueError, match="captured as something else"):
        compiled(model, torch.zeros(2, 20))


def test_the_mode_of_the_model_does_not_matter():
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    model = prune_(model, 0.5).train()
    before = copy.deepcopy(model.state_dict())
    assert compiled(model).origin.certificate.normwise < 1e-5
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_wrong_kernel_is_found():
    model, x = Head(), torch.randn(6, 20)
    graph = capture(model, x)

    def wrong(inputs):
        (y,) = run(graph, inputs)
        y[:, 3] *= 1.001
        return [y]

    with pytest.raises(ValueError, match=r"engine computes something else.*report it"):
        certify_model(model, graph, graph, [x], [wrong])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes_are_compared_in_float32(dtype):
    model = prune_(nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.Linear(30, 3)), 0.5).to(dtype)
    found = compiled(model, torch.randn(6, 20, dtype=dtype)).origin.certificate
    assert found.batches == 2
    assert found.normwise < 1e-5
    assert all(p.dtype == dtype for p in model.parameters())


def test_outputs_that_nearly_cancel_are_no_disagreement():
    """Their rounding error is large by their norm: it is measured, not taken for a wrong capture."""
    torch.manual_seed(0)
    model = nn.Linear(400, 3, bias=False)
    with torch.no_grad():
        half = torch.randn(3, 200)
        # Equal up to one part in a million.
        model.weight.copy_(torch.cat((half, -half * (1 + 1e-6)), 1))
    x = torch.randn(4, 200).repeat(1, 2)
    assert compiled(nn.Sequential(model), x).origin.certificate.normwise > 1e-5


def test_outputs_that_are_no_numbers_are_left_out():
    found = compiled(Head(lambda y: (y, y.argmax(1)))).origin.certificate
    assert 0 < found.scale < 8


def test_an_example_with_nan_is_left_out():
    found = compiled(Head(), torch.full((2, 20), torch.nan)).origin.certificate
    assert found.batches == 1
    assert found.max_difference < 1e-5


def test_a_model_that_takes_no_random_numbers():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    assert compiled(model, torch.randint(9, (5, 3))).origin.certificate.batches == 2

    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(9, 4))

        def forward(self, x):
            return F.linear(self.table[(10 * x[:, 0]).long()], self.table)

    assert compiled(Lookup(), torch.full((3, 1), 0.8)).origin.certificate.batches == 1


def test_the_certificate_goes_along():
    sparse = compiled(Head(), weight_dtype=torch.bfloat16)
    for other in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert other.origin == sparse.origin
    assert Origin.from_json(sparse.origin.to_json()) == sparse.origin
    with pytest.raises(ValueError, match="no origin"):
        Origin.from_json({"layers": {"a": {}}})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_16_bits(dtype):
    torch.manual_seed(1)
    model = prune_(nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 7)), 0.8)
    x = torch.randn(6, 40)
    sparse = compiled(model, x, weight_dtype=dtype)
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for layer in (rounded[0], rounded[2]):
            layer.weight.copy_(layer.weight.to(dtype))  # biases stay in float32
        expected, dense = rounded.double()(x.double()), model.double()(x.double())
    assert (sparse(x).double() - expected).norm() <= 1e-5 * expected.norm()
    assert {node.weight.dtype for node in sparse.graph.layers()} == {dtype}
    assert {node.bias.dtype for node in sparse.graph.layers()} == {torch.float32}
    # The first four samples are the example's.
    apart = (expected - dense)[:4].norm() / dense[:4].norm()
    assert sparse.origin.rounding.normwise >= 0.999 * apart > 0
    assert sparse.origin.certificate.normwise < 1e-5
    report = sparse.inspect()
    assert report.value_bytes == 2 * report.nonzero
    assert compiled(model.float(), x).inspect().value_bytes == 4 * report.nonzero
    assert "rounding" in str(report)


def test_16_bits_in_torch():
    """What has no kernel, or runs without the engine, takes such weights too."""
    model = prune_(nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 7)), 0.95)
    x = torch.randn(6, 40)
    plan = inference.Plan("measured", {1: inference.Choice(native=False)})
    with pytest.warns(UserWarning, match="nothing to gain"):
        dense = compiled(model, x, weight_dtype=torch.float16, plan=plan)
    sparse = compiled(model, x, weight_dtype=torch.float16)
    assert (dense(x) - sparse(x)).norm() <= 1e-5 * dense(x).norm()


def test_weights_too_large_for_16_bits():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0, 0] = 1e5
    with pytest.raises(
        ValueError,
        match=r"layer '0' has weights up to 100000, beyond 65504, the largest torch.float16; use",
    ):
        compiled(model, torch.zeros(1, 3), weight_dtype=torch.float16)
    assert (
        compiled(model, torch.zeros(1, 3), weight_dtype=torch.bfloat16).origin.rounding.normwise < 0.01
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, "bfloat16", None])
def test_unknown_weight_dtypes(dtype):
    with pytest.raises(ValueError, match=r"weight_dtype must be one of torch.float32, torch.bfloat16"):
        compiled(Head(), weight_dtype=dtype)


def test_rounding_to_float32_changes_nothing():
    graph = capture(Head(), torch.zeros(2, 20))
    assert round_weights(graph, torch.float32) is graph
