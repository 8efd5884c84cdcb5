"""What `SparseModel.inspect` says."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import inference
from benchmarks.networks import prune_
from inference.origin import Origin


def dead_units():
    """A model with 3 dead units in its first layer, and a layer that is constant."""
    torch.manual_seed(0)
    model = prune_(nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 6)), 0.5)
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias[:3] = -1
        model[0].weight[3:, 0] = 1
        model[2].weight[:, 3:] = 1
    return model


@pytest.fixture(scope="module")
def sparse():
    return inference.compile(dead_units(), torch.zeros(2, 12), plan="static", batch_sizes=(1, 8))


def test_zeros_before_and_after(sparse):
    model = dead_units()
    first, second = sparse.inspect().layers
    assert (first.shape, second.shape) == ((7, 12), (6, 7))
    assert (first.units_removed, second.units_removed) == (3, 0)
    assert first.original.shape == (10, 12)
    assert first.original.nonzero == int(model[0].weight.count_nonzero())
    assert first.nonzero == first.original.nonzero
    assert second.original.nonzero == int(model[2].weight.count_nonzero()) > second.nonzero == 42
    report = sparse.inspect()
    zeros = 1 - (first.original.nonzero + second.original.nonzero) / 180
    assert report.original_sparsity == pytest.approx(zeros)
    assert report.original_total == 180
    assert "3 units removed" in str(report)


def test_a_layer_that_nobody_needs_keeps_one_unit_and_its_place():
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.dead, self.b = nn.Linear(4, 3), nn.Linear(4, 2), nn.Linear(5, 2)
            with torch.no_grad():
                self.b.weight[:, 3:] = 0

        def forward(self, x):
            return self.b(torch.cat((self.a(x), self.dead(x)), 1))

    report = inference.compile(Chain(), torch.zeros(2, 4), plan="static").inspect()
    layers = {layer.name: layer for layer in report.layers}
    assert (layers["dead"].units_removed, layers["dead"].nonzero) == (1, 0)
    assert report.original_total == 12 + 8 + 10


def test_bytes_are_those_of_the_kernels(sparse):
    for layer in sparse.inspect().layers:
        # At least a value of four bytes for each weight that is multiplied.
        assert all(size >= 4 * layer.nonzero > 0 for size in layer.bytes.values())
    choice = inference.Choice(native=False)
    with pytest.warns(UserWarning, match="nothing to gain"):
        dense = inference.compile(dead_units(), torch.zeros(2, 12), plan=inference.Plan("", {1: choice}))
    assert [layer.bytes[1] for layer in dense.inspect().layers] == [4 * 7 * 12, 4 * 6 * 7]


def test_times(sparse):
    assert not any(layer.microseconds for layer in sparse.inspect().layers)
    report = sparse.inspect(timing=True, dense=dead_units())
    for layer in report.layers:
        assert sorted(layer.microseconds) == sorted(layer.speedup) == [1, 8]
        assert all(t > 0 for t in (*layer.microseconds.values(), *layer.dense_microseconds.values()))
    assert sorted(report.whole) == [1, 8]
    for times in report.whole.values():
        assert times.keys() >= {"engine", "torch"}
        assert all(t > 0 for t in times.values())
    assert "µs; dense torch" in str(report)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_times_beside_a_model_of_another_dtype(dtype):
    model, x = dead_units().to(dtype), torch.zeros(2, 12, dtype=dtype)
    sparse = inference.compile(model, x, plan="static", batch_sizes=(1,))
    for example in (None, x):
        report = sparse.inspect(timing=True, example=example, dense=model)
        assert report.whole[1].keys() >= {"engine", "torch"}
    assert model[0].weight.dtype == dtype


def test_times_of_networks_with_layers_in_torch_and_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv = nn.Embedding(7, 6), nn.Conv2d(2, 3, 3, padding=1)
            self.norm, self.fc = nn.LayerNorm(6), nn.Linear(6, 4)

        def forward(self, ids, image):
            tokens = self.fc(self.norm(self.table(ids)))
            return tokens, torch.relu(self.conv(image)) + image[:, :1]

    example = (torch.randint(7, (3, 5)), torch.randn(3, 2, 6, 6))
    sparse = inference.compile(prune_(Two(), 0.7), example, plan="static", batch_sizes=(2,))
    with pytest.raises(ValueError, match="pass an example"):
        sparse.inspect(timing=True)
    report = sparse.inspect(timing=True, example=example)
    assert all(layer.microseconds[2] > 0 for layer in report.layers)
    assert report.whole[2]["torch"] > 0


def test_json(sparse):
    data = json.loads(json.dumps(sparse.inspect(timing=True).to_json()))
    (first, second) = data["layers"]
    assert (first["name"], first["shape"], first["units_removed"]) == ("0", [7, 12], 3)
    assert first["original"]["shape"] == [10, 12]
    assert set(first["kernels"]) == set(first["bytes"]) == set(second["microseconds"]) == {"1", "8"}
    assert data["whole"]["8"]["engine"] > 0
    assert Origin.from_json(data["origin"]) == sparse.origin


def test_rich_prints_the_same(sparse):
    console = Console(file=io.StringIO(), width=300)
    report = sparse.inspect()
    console.print(report)
    printed = console.file.getvalue().split()
    assert printed == str(report).split()


def test_a_model_made_otherwise_has_no_origin(sparse):
    other = inference.SparseModel(sparse.graph, sparse.plan)
    report = other.inspect()
    assert report.origin is None
    assert report.original_total == 0
    assert [layer.units_removed for layer in report.layers] == [0, 0]
    assert str(report).endswith("weights zero")
    x = np.ones((3, 12), np.float32)
    np.testing.assert_array_equal(other(x), sparse(x))
