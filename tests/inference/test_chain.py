"""A CSR chain computes what the dense model does, within a bound derived from float rounding."""

import copy
import itertools
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inference import CSRChain

BACKENDS = ["scipy", "torch"]
DTYPES = [torch.float32, torch.float64]


def sparse_model(
    widths: list[int], sparsity: float, dtype: torch.dtype, *, bias: bool = True, seed: int = 0
) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(widths):
        layer = nn.Linear(1, 1, bias=bias)  # Widths of zero make torch's own initialization warn.
        layer.in_features, layer.out_features = fan_in, fan_out
        weight = torch.randn(fan_out, fan_in, dtype=dtype, generator=generator)
        weight *= torch.rand(weight.shape, generator=generator) >= sparsity
        layer.weight = nn.Parameter(weight)
        if bias:
            layer.bias = nn.Parameter(torch.randn(fan_out, dtype=dtype, generator=generator))
        modules += [layer, nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*modules[:-2])


def reference_and_bound(model: nn.Sequential, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The dense output in float64 and how far any summation order in the model's dtype may be off.

    A dot product of n terms plus bias errs by at most gamma * (|w| |x| + |b|) with
    gamma = m u / (1 - m u), m = n + 1, u half the machine epsilon; what came in wrong is carried on
    by |w|. ReLU adds nothing. Twice that, since for float64 the reference itself rounds alike.
    """
    info = torch.finfo(batch.dtype)
    error = torch.zeros(batch.shape, dtype=torch.float64)
    exact = batch.double()
    for module in copy.deepcopy(model).double().eval():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().abs()
            roundings = (module.in_features + 1) * info.eps / 2
            terms = (exact.abs() + error) @ weight.t()
            if module.bias is not None:
                terms = terms + module.bias.detach().abs()
            gamma = roundings / (1 - roundings)
            error = error @ weight.t() + gamma * terms + module.in_features * info.tiny
        exact = module(exact).detach()
    return exact, 2 * error


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    widths=st.lists(st.integers(0, 20), min_size=2, max_size=5),
    rows=st.integers(0, 9),
    sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    bias=st.booleans(),
    as_numpy=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_equals_the_dense_model(
    backend: str,
    dtype: torch.dtype,
    widths: list[int],
    rows: int,
    sparsity: float,
    bias: bool,
    as_numpy: bool,
    seed: int,
) -> None:
    model = sparse_model(widths, sparsity, dtype, bias=bias, seed=seed)
    batch = torch.randn(rows, widths[0], dtype=dtype, generator=torch.Generator().manual_seed(seed))
    untouched = batch.clone()
    chain = CSRChain.from_sequential(model, backend=backend)
    if as_numpy:
        outputs = chain(batch.numpy())
        assert isinstance(outputs, np.ndarray)
        assert outputs.flags.c_contiguous
        result = torch.from_numpy(outputs)
    else:
        result = chain(batch)
        assert result.is_contiguous()
        assert not result.requires_grad
    exact, bound = reference_and_bound(model, batch)
    assert result.dtype == dtype
    assert result.shape == (rows, widths[-1])
    assert torch.all((result.double() - exact).abs() <= bound)
    assert torch.equal(batch, untouched)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lenet_300_100(backend: str) -> None:
    model = sparse_model([784, 300, 100, 10], 0.98, torch.float32)
    batch = torch.randn(64, 784, generator=torch.Generator().manual_seed(1))
    exact, bound = reference_and_bound(model, batch)
    result = CSRChain.from_sequential(model, backend=backend)(batch)
    assert torch.all((result.double() - exact).abs() <= bound)
    assert bound.max() < 1e-2 * exact.abs().max(), "a bound that wide would prove nothing"


@pytest.mark.parametrize("backend", BACKENDS)
def test_worked_by_hand(backend: str) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    relu = nn.ReLU()
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
        first.bias.copy_(torch.tensor([0.5, 1.0]))
        second.weight.copy_(torch.tensor([[-4.0, 8.0]]))
        second.bias.copy_(torch.tensor([0.25]))
    chain = CSRChain.from_sequential(nn.Sequential(first, relu, second), backend=backend)
    assert chain(torch.tensor([[1.0, 1.0], [-2.0, -1.0]])).tolist() == [[-5.75], [24.25]]
    # One ReLU module in two places runs twice, and so does a Linear.
    shared = nn.Sequential(first, relu, first, relu, second, relu)
    chain = CSRChain.from_sequential(shared, backend=backend)
    assert chain(torch.tensor([[1.0, 1.0], [-2.0, -1.0]])).tolist() == [[0.25], [0.0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_and_inf_weights_survive(backend: str) -> None:
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[torch.nan, 0.0], [0.0, torch.inf], [1.0, 0.0]]))
    outputs = CSRChain.from_sequential(nn.Sequential(layer, nn.ReLU()), backend)(torch.ones(1, 2))
    torch.testing.assert_close(
        outputs, torch.tensor([[torch.nan, torch.inf, 1.0]]), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_of_any_strides(backend: str) -> None:
    model = sparse_model([6, 4], 0.5, torch.float32)
    chain = CSRChain.from_sequential(model, backend=backend)
    batch = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    expected = chain(batch)
    assert torch.equal(chain(batch.t().contiguous().t()), expected)
    reversed_twice = np.ascontiguousarray(batch.numpy()[::-1, ::-1])[::-1, ::-1]
    np.testing.assert_array_equal(chain(reversed_twice), expected.numpy())
    read_only = batch.numpy().copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(chain(read_only), expected.numpy())
    assert chain(read_only[:1]).shape == (1, 4)  # Contiguous both ways, so nothing need be copied.
    assert torch.equal(chain(batch.clone().requires_grad_()), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_later_training_does_not_change_the_chain(backend: str) -> None:
    model = sparse_model([6, 4, 3], 0.5, torch.float32)
    chain = CSRChain.from_sequential(model, backend=backend)
    batch = torch.ones(2, 6)
    before = chain(batch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert torch.equal(chain(batch), before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_and_pickles(backend: str) -> None:
    chain = CSRChain.from_sequential(sparse_model([6, 4, 3], 0.5, torch.float32), backend=backend)
    batch = torch.ones(2, 6)
    for twin in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert torch.equal(twin(batch), chain(batch))
        assert twin.nbytes == chain.nbytes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nbytes(backend: str, dtype: torch.dtype) -> None:
    model = sparse_model([30, 20, 10], 0.9, dtype)
    expected = 0
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight = scipy.sparse.csr_array(layer.weight.detach().numpy())
            expected += weight.data.nbytes + weight.indices.nbytes + weight.indptr.nbytes
            expected += layer.out_features * dtype.itemsize
    assert CSRChain.from_sequential(model, backend=backend).nbytes == expected


def test_nested_models_and_harmless_subclasses() -> None:
    class Block(nn.Sequential):
        pass

    inner = sparse_model([4, 3], 0.5, torch.float32)
    model = Block(nn.Identity(), Block(*inner, nn.ReLU()), nn.Dropout())
    batch = torch.eye(4)
    exact, bound = reference_and_bound(inner, batch)
    result = CSRChain.from_sequential(model)(batch)
    assert torch.all((result - exact.relu()).abs() <= bound)


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    "module",
    [nn.Conv2d(1, 1, 1), nn.Flatten(0), nn.Sigmoid(), Doubled(2, 2), nn.BatchNorm1d(2)],
)
def test_unsupported_modules_are_named_with_their_path(module: nn.Module) -> None:
    body = nn.Sequential(nn.Linear(2, 2), module)
    model = nn.Sequential(OrderedDict(body=body, end=nn.ReLU()))
    expected = re.escape(f"module 'body.1' is not supported: {type(module).__name__}(")
    with pytest.raises(TypeError, match=expected):
        CSRChain.from_sequential(model)


def test_models_that_are_no_chain() -> None:
    with pytest.raises(ValueError, match="holds no Linear"):
        CSRChain.from_sequential(nn.Sequential(nn.Flatten()))
    with pytest.raises(ValueError, match="module '0' is a ReLU before the first Linear"):
        CSRChain.from_sequential(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="module '1' takes 4 features, the Linear before it gives"):
        CSRChain.from_sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 2)))
    with pytest.raises(TypeError, match=r"module '0' has weights of torch\.bfloat16"):
        CSRChain.from_sequential(nn.Sequential(nn.Linear(2, 2, dtype=torch.bfloat16)))
    with pytest.raises(TypeError, match=r"module '1' has weights of torch\.float64"):
        CSRChain.from_sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()))
    with pytest.raises(ValueError, match="unknown backend 'mkl'; known: scipy, torch"):
        CSRChain.from_sequential(nn.Sequential(nn.Linear(2, 2)), backend="mkl")


def test_bad_batches() -> None:
    chain = CSRChain.from_sequential(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(TypeError, match="NumPy array or torch tensor, got list"):
        chain([[1.0, 2.0, 3.0]])  # type: ignore[type-var]
    for shape in ((1, 4), (3,), (1, 1, 3), ()):
        with pytest.raises(ValueError, match=r"shape \[batch, 3\], got \("):
            chain(torch.zeros(shape))
    with pytest.raises(TypeError, match="batch has dtype float64, the weights float32"):
        chain(np.zeros((1, 3)))
    with pytest.raises(TypeError, match="batch has dtype int64, the weights float32"):
        chain(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="batch has dtype >f4"):
        chain(np.zeros((1, 3), dtype=">f4"))
    with pytest.raises(ValueError, match=r"on meta; .*batch\.cpu\(\)"):
        chain(torch.zeros(1, 3, device="meta"))
