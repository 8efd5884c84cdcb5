"""`SparseLinear` computes what the dense layer does, within a bound derived from float rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inference import SparseLinear
from tests.inference.formats.common import PRODUCTS, each_backend, each_product
from tests.inference.modules.common import assert_within, reference_and_bound, sparse_linear


@each_product
@given(
    fan_in=st.integers(0, 20),
    fan_out=st.integers(0, 20),
    lead=st.lists(st.integers(0, 4), max_size=3),
    sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_equals_the_dense_layer(
    backend: str,
    dtype: torch.dtype,
    fan_in: int,
    fan_out: int,
    lead: list[int],
    sparsity: float,
    bias: bool,
    seed: int,
) -> None:
    dense = sparse_linear(fan_in, fan_out, sparsity, dtype, bias=bias, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, fan_in, generator=generator, dtype=torch.float64).to(dtype)
    untouched = x.clone()
    result = SparseLinear.from_linear(dense, backend)(x)
    assert result.dtype == dtype
    assert result.is_contiguous()
    assert not result.requires_grad
    assert_within(result, *reference_and_bound(dense, x))
    assert torch.equal(x, untouched)


@each_backend
def test_worked_by_hand(backend: str) -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
        layer.bias.copy_(torch.tensor([0.5, 1.0]))
    sparse = SparseLinear.from_linear(layer, backend)
    assert sparse(torch.tensor([[1.0, 1.0], [-2.0, -1.0]])).tolist() == [[1.5, -1.0], [-1.5, 3.0]]
    assert sparse(torch.tensor([1.0, 1.0])).tolist() == [1.5, -1.0]
    assert sparse.values.tolist() == [1.0, -2.0]
    assert sparse.columns.tolist() == [0, 1]
    assert sparse.row_pointers.tolist() == [0, 1, 2]
    assert sparse.sparsity == 0.5
    assert torch.equal(sparse.weight, layer.weight)


@each_backend
def test_special_numbers(backend: str) -> None:
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[torch.nan, 0.0], [0.0, torch.inf], [1.0, 0.0]]))
    sparse = SparseLinear.from_linear(layer, backend)
    expected = torch.tensor([[torch.nan, torch.inf, 1.0]])
    torch.testing.assert_close(sparse(torch.ones(1, 2)), expected, rtol=0, atol=0, equal_nan=True)
    # A zero weight is not multiplied, so an infinite input reaches only what it has a weight to.
    assert sparse(torch.tensor([[2.0, -torch.inf]]))[0, 1:].tolist() == [-torch.inf, 2.0]


@each_backend
def test_inputs_of_any_strides(backend: str) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(6, 4), backend)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    expected = sparse(x)
    assert torch.equal(sparse(x.t().contiguous().t()), expected)
    assert torch.equal(sparse(torch.stack((x, -x), 2)[..., 0]), expected)
    assert torch.equal(sparse(x[:1].expand(5, 6)), expected[:1].expand(5, 4))
    assert torch.equal(sparse(nn.Parameter(x, requires_grad=False)), expected)
    with torch.inference_mode():
        assert torch.equal(sparse(x), expected)


@each_backend
def test_autocast_changes_nothing(backend: str) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(6, 4), backend)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sparse(x)
    assert torch.equal(found, sparse(x))


@each_backend
def test_changes_to_the_dense_layer_and_to_outputs_stay_there(backend: str) -> None:
    dense = sparse_linear(6, 4)
    sparse = SparseLinear.from_linear(dense, backend)
    x = torch.ones(2, 6)
    before = sparse(x)
    kept = before.clone()
    with torch.no_grad():
        dense.weight.add_(1)
        dense.bias.add_(1)
    before.mul_(2)
    assert torch.equal(sparse(x), kept)


@each_backend
def test_changes_to_the_buffers_show(backend: str) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(6, 4, bias=False), backend)
    x = torch.ones(2, 6)
    before = sparse(x)
    sparse.values.mul_(2)
    assert torch.equal(sparse(x), 2 * before)
    sparse.values.data = 2 * sparse.values.data
    assert torch.equal(sparse(x), 4 * before)
    sparse.values = torch.zeros_like(sparse.values)
    assert torch.equal(sparse(x), torch.zeros_like(before))


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@each_backend
def test_both_index_dtypes(backend: str, index: torch.dtype) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(6, 4), backend)
    x = torch.ones(2, 6)
    expected = sparse(x)
    sparse.columns, sparse.row_pointers = sparse.columns.to(index), sparse.row_pointers.to(index)
    assert torch.equal(sparse(x), expected)


@each_backend
def test_it_computes_no_gradients(backend: str) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(3, 2), backend)
    x = torch.ones(1, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"computes no gradients, .*torch\.no_grad\(\)"):
        sparse(x)
    with torch.no_grad():
        assert torch.equal(sparse(x), sparse(x.detach()))
    assert not list(sparse.parameters())


@each_backend
def test_dtypes_that_a_backend_does_not_multiply(backend: str) -> None:
    for dtype in set(PRODUCTS["torch_sparse"]) - set(PRODUCTS[backend]):
        with pytest.raises(TypeError, match=str(dtype)):
            SparseLinear.from_linear(sparse_linear(3, 2, dtype=dtype), backend)
        sparse = SparseLinear.from_linear(sparse_linear(3, 2), backend).to(dtype)
        with pytest.raises(TypeError, match=str(dtype)):
            sparse(torch.ones(1, 3, dtype=dtype))


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_bad_layers() -> None:
    for module in (nn.Conv2d(1, 1, 1), Doubled(2, 2), torch.ones(2, 2)):
        with pytest.raises(
            TypeError, match=rf"expected a torch\.nn\.Linear, got {type(module).__name__}"
        ):
            SparseLinear.from_linear(module)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown backend 'mkl'; known: .*torch"):
        SparseLinear.from_linear(nn.Linear(2, 2), "mkl")


@each_backend
def test_bad_inputs(backend: str) -> None:
    sparse = SparseLinear.from_linear(sparse_linear(3, 2), backend)
    for shape in ((1, 4), (4,), (1, 1, 2), ()):
        with pytest.raises(ValueError, match=r"must be \[\.\.\., 3\], got \("):
            sparse(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"input is torch\.float64 on cpu, the weight torch\.float32"):
        sparse(torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"input is torch\.float32 on meta, .* on cpu"):
        sparse(torch.zeros(1, 3, device="meta"))


def test_it_says_what_it_is() -> None:
    sparse = SparseLinear.from_linear(nn.Linear(3, 2, bias=False), "scipy")
    assert repr(sparse) == (
        "SparseLinear(in_features=3, out_features=2, bias=False, sparsity=0.000, backend='scipy')"
    )
