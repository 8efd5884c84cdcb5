"""A saved model is the same when it is loaded: outputs, weights, plan."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import inference
from benchmarks.networks import NETWORKS, prune_
from inference.artifact.container import read
from inference.artifact.keys import MAX_BYTES
from tests.inference.models import CASES
from tests.inference.test_capture_transformers import bert, gpt2, tokens


def bits(tensor):
    """Return a tensor's bytes, of which -0.0 has those of +0.0."""
    tensor = torch.where(tensor == 0, torch.zeros((), dtype=tensor.dtype), tensor)
    return (
        tensor.dtype,
        tuple(tensor.shape),
        tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
    )


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert bits(found[name]) == bits(tensor), name


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def round_trip(model, example, path, inputs=None):
    """Save and load a model, compare all of it, and return the loaded one."""
    compiled = inference.compile(model, example, plan="static")
    compiled.save(path)
    loaded = inference.load(path)
    given = inputs if inputs is not None else example
    given = (given,) if isinstance(given, torch.Tensor) else given
    for ours, theirs in zip(as_tuple(loaded(*given)), as_tuple(compiled(*given)), strict=True):
        assert bits(ours) == bits(theirs)
    assert loaded.plan == compiled.plan
    assert str(loaded.inspect()) == str(compiled.inspect())
    assert_same_state(loaded.to_dense(), model.state_dict())
    assert_same_state(compiled.to_dense(), model.state_dict())
    assert_same_state(inference.load_state(path), model.state_dict())
    return loaded


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, tmp_path):
    build, shape = NETWORKS[name]
    round_trip(prune_(build(0), 0.95), torch.randn(3, *shape), tmp_path / "model.dwf")


@pytest.mark.parametrize("name", CASES)
def test_all_layers_and_operators(name, tmp_path):
    torch.manual_seed(0)
    case = CASES[name]
    model = case.model().eval()
    round_trip(model, tuple(torch.randn(3, *shape) for shape in case.shapes), tmp_path / "model.dwf")


@pytest.mark.parametrize("build", [bert, gpt2])
def test_models_that_take_integers(build, tmp_path):
    torch.manual_seed(0)
    round_trip(build().eval(), tokens(3, torch.Generator().manual_seed(0)), tmp_path / "model.dwf")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_keep_their_dtype(dtype, tmp_path):
    model = prune_(
        nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 4)), 0.9
    )
    model = model.eval().to(dtype)
    compiled = inference.compile(model, torch.zeros(2, 40, dtype=dtype), plan="static")
    compiled.save(tmp_path / "model.dwf")
    loaded = inference.load(tmp_path / "model.dwf")
    x = torch.randn(5, 40)
    assert torch.equal(loaded(x), compiled(x))
    assert_same_state(loaded.to_dense(), model.state_dict())


def normed():
    """A network with a BatchNorm that has seen data."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )
    model(torch.randn(16, 3, 8, 8))
    return prune_(model, 0.9).eval()


def test_a_dense_model_is_filled_to_train_on(tmp_path):
    model, blank = normed(), normed()
    with torch.no_grad():
        for tensor in blank.state_dict().values():
            tensor.zero_()
    inference.compile(model, torch.zeros(1, 3, 8, 8), plan="static").save(tmp_path / "model.dwf")
    state = inference.load(tmp_path / "model.dwf").to_dense(blank)
    assert_same_state(blank.state_dict(), model.state_dict())
    assert_same_state(state, model.state_dict())
    x, steps = torch.randn(4, 3, 8, 8), []
    for each in (model.train(), blank.train()):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        each(x).square().sum().backward()
        optimizer.step()
        steps.append(each.state_dict())
    assert_same_state(*steps)


def test_another_model_is_refused(tmp_path):
    compiled = inference.compile(normed(), torch.zeros(1, 3, 8, 8), plan="static")
    with pytest.raises(ValueError, match=r"(?s)not the one that was compiled.*Missing key.*0\.weight"):
        compiled.to_dense(nn.Linear(3, 2))


def test_a_model_that_does_not_fit_is_left_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    other = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="not the one that was compiled"):
        inference.compile(model, torch.zeros(1, 6), plan="static").to_dense(other)
    assert_same_state(other.state_dict(), before)


def test_later_changes_to_the_model_do_not_reach_the_file(tmp_path):
    model = normed()
    before = copy.deepcopy(model.state_dict())
    compiled = inference.compile(model, torch.zeros(1, 3, 8, 8), plan="static")
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    compiled.save(tmp_path / "model.dwf")
    assert_same_state(inference.load(tmp_path / "model.dwf").to_dense(), before)


def test_tied_weights_are_stored_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    model = Tied().eval()
    round_trip(model, torch.zeros(2, 64), tmp_path / "model.dwf", torch.randn(3, 64))
    assert (tmp_path / "model.dwf").stat().st_size < 1.5 * model.first.weight.nbytes


def test_a_view_of_a_weight_is_not_stored_again(tmp_path):
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(64, 96))

        def forward(self, x):
            first, second = self.table.chunk(2)
            return (x @ first) @ second.t()

    model = Transposed()
    round_trip(model, torch.zeros(2, 32), tmp_path / "model.dwf", torch.randn(3, 32))
    assert (tmp_path / "model.dwf").stat().st_size < 1.5 * model.table.nbytes


def test_a_loaded_model_can_be_saved_copied_and_pickled(tmp_path):
    loaded = round_trip(normed(), torch.zeros(1, 3, 8, 8), tmp_path / "model.dwf")
    x = torch.randn(2, 3, 8, 8)
    loaded.save(tmp_path / "again.dwf")
    for other in (
        inference.load(tmp_path / "again.dwf"),
        copy.deepcopy(loaded),
        pickle.loads(pickle.dumps(loaded)),
    ):
        assert torch.equal(other(x), loaded(x))
        assert_same_state(other.to_dense(), loaded.to_dense())


def test_a_model_holds_dense_weights_once():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).eval()
    compiled = inference.compile(model, torch.zeros(1, 64), plan="static")
    graph, source = compiled.graph, compiled.source
    there = {node.weight.data_ptr() for node in graph.layers()}
    assert {source.tensors[name].values.data_ptr() for name in ("0.weight", "2.weight")} == there


def test_provenance_says_what_was_compiled_and_nothing_of_who(tmp_path):
    model = normed()
    inference.compile(model, torch.zeros(1, 3, 8, 8), plan="static").save(tmp_path / "model.dwf")
    facts = read(tmp_path / "model.dwf", MAX_BYTES).provenance
    weights = [tensor for tensor in model.state_dict().values() if tensor.dim() >= 2]
    assert facts.keys() == {"model", "dwf-optim", "torch", "time", "weights", "nonzero"}
    assert facts["model"] == "Sequential"
    assert facts["torch"] == torch.__version__
    assert facts["weights"] == sum(tensor.numel() for tensor in weights)
    assert facts["nonzero"] == sum(int(tensor.count_nonzero()) for tensor in weights)


def test_lenet_is_as_small_as_its_nonzeros(tmp_path):
    build, shape = NETWORKS["lenet_300_100"]
    model = prune_(build(0), 0.98)
    inference.compile(model, torch.zeros(1, *shape), plan="static").save(tmp_path / "lenet.dwf")
    matrices = [tensor for tensor in model.state_dict().values() if tensor.dim() == 2]
    nonzero = sum(int(tensor.count_nonzero()) for tensor in matrices)
    assert sum(tensor.numel() for tensor in matrices) >= 50 * nonzero * 0.999
    rows = sum(len(tensor) for tensor in matrices)
    # The limit of issue 6.
    assert (tmp_path / "lenet.dwf").stat().st_size <= 1.15 * (6 * nonzero + 8 * rows + 4096)


def test_models_without_their_source_are_not_saved(tmp_path):
    compiled = inference.compile(normed(), torch.zeros(1, 3, 8, 8), plan="static")
    bare = inference.SparseModel(compiled.graph, compiled.plan)
    with pytest.raises(ValueError, match="made from a graph"):
        bare.save(tmp_path / "model.dwf")
    assert not list(tmp_path.iterdir())


def test_arrays_work_as_inputs_of_a_loaded_model(tmp_path):
    loaded = round_trip(normed(), torch.zeros(1, 3, 8, 8), tmp_path / "model.dwf")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(loaded(x), loaded(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "build", [normed, lambda: prune_(nn.Sequential(nn.Linear(192, 300), nn.ReLU()), 0.5)]
)
def test_weights_of_16_bits(dtype, build, tmp_path):
    model = build().eval()
    shape = (192,) if isinstance(model[0], nn.Linear) else (3, 8, 8)
    x = torch.randn(3, *shape)
    compiled = inference.compile(model, x, plan="static", weight_dtype=dtype)
    compiled.save(tmp_path / "short.dwf")
    loaded = inference.load(tmp_path / "short.dwf")
    assert torch.equal(loaded(x), compiled(x))
    assert [node.weight.dtype for node in loaded.graph.layers()] == [
        node.weight.dtype for node in compiled.graph.layers()
    ]
    # Matrices and filters are rounded once, the rest is as it was.
    expected = {
        name: tensor.to(dtype) if tensor.dim() >= 2 else tensor
        for name, tensor in model.state_dict().items()
    }
    assert_same_state(loaded.to_dense(), expected)
    blank = build()
    loaded.to_dense(blank)
    rounded = {
        name: tensor.to(dtype).float() if tensor.dim() >= 2 else tensor
        for name, tensor in expected.items()
    }
    assert_same_state(blank.state_dict(), rounded)
    inference.compile(model, x, plan="static").save(tmp_path / "long.dwf")
    saved = 2 * sum(int(t.count_nonzero()) for t in model.state_dict().values() if t.dim() >= 2)
    # The header may be longer by a few digits, of which one is a dtype's name.
    assert (tmp_path / "short.dwf").stat().st_size <= (
        tmp_path / "long.dwf"
    ).stat().st_size - saved + 256


def test_what_was_seen_of_the_dense_model_is_kept(tmp_path):
    compiled = inference.compile(
        normed(), torch.zeros(1, 3, 8, 8), plan="static", weight_dtype=torch.bfloat16
    )
    compiled.save(tmp_path / "model.dwf")
    assert compiled.origin is not None
    assert inference.load(tmp_path / "model.dwf").origin == compiled.origin


def test_what_no_file_holds_is_compiled_all_the_same(tmp_path):
    model = normed()
    model.register_buffer("phase", torch.ones(3, 3, dtype=torch.complex64))
    compiled = inference.compile(model, torch.zeros(1, 3, 8, 8), plan="static")
    assert torch.equal(compiled.to_dense()["phase"], model.phase)
    with pytest.raises(
        TypeError, match=r"tensor 'phase' is of torch\.complex64; a file holds tensors of"
    ):
        compiled.save(tmp_path / "model.dwf")
    assert not list(tmp_path.iterdir())
