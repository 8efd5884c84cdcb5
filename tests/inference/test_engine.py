"""`inference.compile` against the dense model in float64."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import inference
from benchmarks.networks import NETWORKS, prune_
from inference import native

BATCHES = (1, 2, 3, 16, 65)


def mlp(sparsity=0.9, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 40), nn.GELU(), nn.Linear(40, 5))
    return prune_(model, sparsity, seed).eval()


def static(model, example, **options):
    return inference.compile(model, example, plan="static", **options)


def assert_close(found, model, x):
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
    found = torch.as_tensor(found).double()
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_the_dense_model(name):
    build, shape = NETWORKS[name]
    model = prune_(build(0), 0.95)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    sparse = static(model, x)
    for batch in (1, 3):
        assert_close(sparse(x[:batch]), model, x[:batch])


@pytest.mark.parametrize("plan", ["static", "measure"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_batch_size(plan, threads):
    model = mlp()
    with warnings.catch_warnings():
        # On a loaded machine the measurement may find torch faster.
        warnings.filterwarnings("ignore", message="nothing to gain")
        sparse = inference.compile(model, torch.zeros(1, 30), plan=plan, threads=threads)
    for batch in BATCHES:
        x = torch.randn(batch, 30)
        assert_close(sparse(x), model, x)
        assert_close(sparse(x.numpy()), model, x)


def test_integer_inputs_look_up_embeddings():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)).eval()
    ids = torch.randint(9, (5, 3))
    sparse = static(model, ids)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(ids)
    for found in (sparse(ids), torch.from_numpy(sparse(ids.numpy()))):
        assert (found.double() - expected).norm() <= 1e-5 * expected.norm()


def test_arrays_in_arrays_out_and_tensors_in_tensors_out():
    sparse = static(mlp(), torch.zeros(1, 30))
    assert type(sparse(torch.zeros(2, 30))) is torch.Tensor
    assert type(sparse(np.zeros((2, 30), np.float32))) is np.ndarray


def test_out_is_filled_and_returned():
    sparse, x = static(mlp(), torch.zeros(1, 30)), torch.randn(7, 30)
    out = torch.full((7, 5), torch.nan)
    assert sparse(x, out=out) is out
    assert torch.equal(out, sparse(x))
    array = np.full((7, 5), np.nan, np.float32)
    assert sparse(x.numpy(), out=array) is array
    np.testing.assert_array_equal(array, out.numpy())


def test_inputs_that_are_not_contiguous():
    sparse, model = static(mlp(), torch.zeros(1, 30)), mlp()
    x = torch.randn(30, 9).t()
    assert_close(sparse(x), model, x)
    assert_close(sparse(x.numpy()), model, x)
    reversed_rows = x.numpy()[::-1]
    assert_close(sparse(reversed_rows), model, torch.from_numpy(reversed_rows.copy()))


def test_inputs_that_may_not_be_written():
    x = np.zeros((2, 30), np.float32)
    x.flags.writeable = False
    assert_close(static(mlp(), torch.zeros(1, 30))(x), mlp(), torch.zeros(2, 30))


def test_a_batch_of_none():
    sparse = static(mlp(), torch.zeros(1, 30))
    assert sparse(torch.zeros(0, 30)).shape == (0, 5)
    assert sparse(np.zeros((0, 30), np.float32)).shape == (0, 5)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 31), np.float32), ValueError, r"must have shape \[batch, 30\], got \[2, 31\]"),
        (np.zeros((30,), np.float32), ValueError, r"must have shape \[batch, 30\]"),
        (np.zeros((2, 5, 6), np.float32), ValueError, r"must have shape \[batch, 30\]"),
        (np.zeros((2, 30)), TypeError, "dtype float64.*convert"),
        (np.zeros((2, 30), np.float16), TypeError, "dtype float16"),
        (np.zeros((2, 30), np.int64), TypeError, "dtype int64"),
    ],
)
def test_bad_inputs_are_explained(kind, x, error, message):
    with pytest.raises(error, match=message):
        static(mlp(), torch.zeros(1, 30))(kind(x))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 6), np.int64), TypeError, "dtype int64, the compiled model takes float32"),
        (np.zeros((2, 6), np.complex64), TypeError, "dtype complex64"),
        (np.zeros((2, 7), np.float32), ValueError, r"must have shape \[batch, 6\]"),
    ],
)
def test_bad_inputs_of_what_torch_reads_first(x, error, message):
    model = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2)).eval()
    with pytest.raises(error, match=message):
        static(model, torch.zeros(1, 6))(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3), np.float32), TypeError, "dtype float32, the compiled model takes integers"),
        (np.zeros((2, 3)), TypeError, "dtype float64, the compiled model takes integers"),
        (np.zeros((2, 4), np.int64), ValueError, r"must have shape \[batch, 3\], got \[2, 4\]"),
    ],
)
def test_bad_indices_are_explained(x, error, message):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)).eval()
    with pytest.raises(error, match=message):
        static(model, torch.zeros(1, 3, dtype=torch.int64))(x)


def test_what_is_no_array():
    sparse = static(mlp(), torch.zeros(1, 30))
    with pytest.raises(TypeError, match="NumPy array or a tensor, got list"):
        sparse([[0.0] * 30])
    with pytest.raises(ValueError, match="takes 1 inputs, got 2"):
        sparse(torch.zeros(1, 30), torch.zeros(1, 30))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.zeros(2, 6), ValueError, r"shape \[2, 5\], got \[2, 6\]"),
        (torch.zeros(2, 5, dtype=torch.float64), TypeError, "float32"),
        (torch.zeros(5, 2).t(), ValueError, "contiguous"),
        (np.zeros((2, 5), np.float32), TypeError, "must be a Tensor"),
    ],
)
def test_bad_outs_are_explained(out, error, message):
    with pytest.raises(error, match=message):
        static(mlp(), torch.zeros(1, 30))(torch.zeros(2, 30), out=out)


def test_several_inputs_and_outputs():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(8, 6)

        def forward(self, x, y):
            total = torch.relu(self.first(x) + self.second(y))
            return total, total.softmax(1)

    model = prune_(Both().eval(), 0.5)
    x, y = torch.randn(5, 4), torch.randn(5, 8)
    found = static(model, (x, y))(x, y)
    with torch.no_grad():
        expected = model.double()(x.double(), y.double())
    assert isinstance(found, tuple)
    for a, b in zip(found, expected, strict=True):
        assert (a.double() - b).norm() <= 1e-5 * b.norm()
    with pytest.raises(ValueError, match="batches of"):
        static(model.float(), (x, y))(x, y[:3])
    with pytest.raises(ValueError, match="one output"):
        static(model, (x, y))(x, y, out=torch.zeros(5, 6))


def test_outputs_are_ordinary_tensors():
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2)).eval()
    for body in (model, mlp()):  # torch and the engine in turns, and one native call
        x = torch.randn(4, body[0].in_features)
        made = static(body, x)(x)
        expected = made.clone()
        torch.testing.assert_close(made.add_(1), expected + 1)
        head = nn.Linear(made.shape[1], 1)
        head(made).sum().backward()
        torch.testing.assert_close(head.weight.grad[0], made.sum(0))


class Products(nn.Module):
    """Of rows with each other, which torch computes, between layers of the engine."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(16, 2)

    def forward(self, x):
        rows = self.first(x).view(-1, 4, 3)
        return self.second((rows @ rows.transpose(1, 2)).flatten(1))


def test_autocast_changes_nothing():
    torch.manual_seed(0)
    model, x = Products().eval(), torch.randn(5, 6)
    sparse = static(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sparse(x)
        compiled_there = static(model, x)
    for made in (found, compiled_there(x)):
        assert torch.equal(made, sparse(x))
    assert_close(found, model, x)


def test_the_model_may_change_afterwards():
    model, x = mlp(), torch.randn(3, 30)
    sparse = static(model, x)
    before = sparse(x)
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(sparse(x), before)


def test_copies_and_pickles_compute_the_same():
    sparse, x = static(mlp(), torch.zeros(1, 30)), torch.randn(3, 30)
    for other in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(other(x), sparse(x))


def test_eight_threads_on_one_model():
    sparse = static(mlp(), torch.zeros(1, 30))
    inputs = [torch.randn(33, 30, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    expected = [sparse(x) for x in inputs]
    wrong: list[int] = []

    def work(index):
        for _ in range(200):
            if not torch.equal(sparse(inputs[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_plan_of_another_model():
    model, x = mlp(), torch.randn(5, 30)
    plan = inference.Plan.from_json(static(model, x, batch_sizes=(1, 8)).plan.to_json())
    sparse = inference.compile(model, x, plan=plan)
    assert sorted(sparse.plan.choices) == [1, 8]
    assert_close(sparse(x), model, x)


@pytest.mark.parametrize("plan", ["fast", None, 3])
def test_unknown_plans(plan):
    with pytest.raises(ValueError, match="plan must be 'measure', 'static' or a Plan"):
        inference.compile(mlp(), torch.zeros(1, 30), plan=plan)


@pytest.mark.parametrize(
    "data", [{}, {"source": "x", "choices": {"1": {}}}, [], {"source": "x", "choices": {}}]
)
def test_what_is_no_plan(data):
    with pytest.raises(ValueError, match="plan"):
        inference.Plan.from_json(data)


@pytest.mark.parametrize("plan", ["static", "measure"])
@pytest.mark.parametrize("batch_sizes", [(), (0,), (4, -1), 4, (1.5,), ("1",), (True,)])
def test_batch_sizes_are_checked(plan, batch_sizes):
    with pytest.raises(ValueError, match="batch_sizes must be integers of 1 and more"):
        inference.compile(mlp(), torch.zeros(1, 30), plan=plan, batch_sizes=batch_sizes)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None, True])
def test_threads_are_checked(threads, tmp_path):
    for plan in ("static", "measure"):
        with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
            inference.compile(mlp(), torch.zeros(1, 30), plan=plan, threads=threads)
    with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
        inference.load(tmp_path / "no file", threads=threads)


def test_the_report_names_what_runs_in_torch():
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2)).eval()
    report = static(model, torch.zeros(2, 6)).inspect()
    kinds = {layer.name: layer.kind for layer in report.layers}
    assert kinds["0"] == kinds["2"] == "Linear"
    assert report.in_torch == ["1"] or not native.is_built()
    assert "aten.layer_norm.default" in str(report)


def test_the_report_counts_weights():
    model = mlp(0.9)
    report = static(model, torch.zeros(1, 30)).inspect()
    with torch.no_grad():
        left = sum(int(p.count_nonzero()) for p in model.parameters() if p.ndim == 2)
    assert 0 < report.nonzero <= left


def test_a_dense_model_compiles_and_is_told_apart():
    model, x = mlp(0.0), torch.randn(4, 30)
    plan = inference.Plan.from_json(
        {"source": "measured", "choices": {"4": {"native": False, "kernels": {}}}}
    )
    with pytest.warns(UserWarning, match="nothing to gain: with 0% of its weights zero"):
        sparse = inference.compile(model, x, plan=plan)
    assert_close(sparse(x), model, x)
