"""The modules copy, pickle, save, load, share and convert as any module does."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import scipy.sparse
import torch
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from inference import SparseConv2d, SparseLinear
from inference.modules.base import CSRModule
from tests.inference.formats.common import PRODUCTS, each_backend, random_weight
from tests.inference.modules.common import same_buffers, sparse_conv, sparse_linear


def linear(backend: str, sparsity: float = 0.5, seed: int = 0) -> SparseLinear:
    return SparseLinear.from_linear(sparse_linear(6, 4, sparsity, seed=seed), backend)


def conv(backend: str, sparsity: float = 0.5, seed: int = 0) -> SparseConv2d:
    layer = sparse_conv(4, 6, (2, 3), groups=2, padding=1, sparsity=sparsity, seed=seed)
    return SparseConv2d.from_conv(layer, backend)


MAKERS: dict[str, tuple[Callable[..., CSRModule], Tensor]] = {
    "linear": (linear, random_weight((3, 6), 0, seed=9)),
    "conv": (conv, random_weight((2, 4, 5, 5), 0, seed=9)),
}
each_kind = pytest.mark.parametrize("kind", MAKERS)


def saved_and_loaded(value: Any, *safe: type) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    with torch.serialization.safe_globals(list(safe)):
        return torch.load(file, weights_only=True)


@each_kind
@each_backend
def test_copies(kind: str, backend: str) -> None:
    make, x = MAKERS[kind]
    module = make(backend)
    expected = module(x)
    for twin in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        saved_and_loaded(module, SparseLinear, SparseConv2d),
    ):
        assert same_buffers(twin, module)
        assert torch.equal(twin(x), expected)
        twin.values.zero_()
        assert torch.equal(module(x), expected), "copies have memory of their own"


@each_kind
@each_backend
def test_a_pickle_holds_the_buffers_alone(kind: str, backend: str) -> None:
    make, x = MAKERS[kind]
    module = make(backend)
    before = len(pickle.dumps(module))
    module(x)
    assert len(pickle.dumps(module)) == before
    assert set(module.state_dict()) == {"values", "columns", "row_pointers", "bias"}


@each_kind
@each_backend
@given(sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]), seed=st.integers(0, 99), assign=st.booleans())
def test_a_state_dict_with_other_zeros(
    kind: str, backend: str, sparsity: float, seed: int, assign: bool
) -> None:
    make, x = MAKERS[kind]
    source, target = make(backend, sparsity, seed), make(backend)
    target(x)  # so that the matrix is there, and has to be forgotten
    target.load_state_dict(saved_and_loaded(source.state_dict()), assign=assign)
    assert same_buffers(target, source)
    assert torch.equal(target(x), source(x))


@each_kind
@each_backend
def test_a_dense_modules_state_dict(kind: str, backend: str) -> None:
    make, x = MAKERS[kind]
    model = nn.Sequential(make(backend), nn.ReLU())
    other = sparse_linear(6, 4, 0.3, seed=5) if kind == "linear" else nn.Conv2d(4, 6, (2, 3), groups=2)
    model.load_state_dict(nn.Sequential(other, nn.ReLU()).state_dict())
    assert torch.equal(model[0].weight, other.weight)
    assert torch.equal(model[0].bias, other.bias)
    expected = copy.deepcopy(model)(x)
    assert torch.equal(model(x), expected)


@each_backend
def test_states_of_either_index_dtype(backend: str) -> None:
    x = MAKERS["linear"][1]
    source, target = linear(backend, seed=1), linear(backend, sparsity=0.2)
    narrow = source.state_dict()
    wide = {k: v.long() if v.dtype == torch.int32 else v for k, v in narrow.items()}
    for state, assign in ((wide, False), (wide, True), (narrow, False), (narrow, True)):
        target.load_state_dict(state, assign=assign)
        assert torch.equal(target(x), source(x))


def test_loading_keeps_dtype_and_tells_what_is_missing() -> None:
    source, target = linear("torch"), linear("torch", sparsity=0.2).double()
    target.load_state_dict(source.state_dict())
    assert target.values.dtype == target.bias.dtype == torch.float64
    assert torch.equal(target.values, source.values.double())
    state = source.state_dict()
    del state["columns"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"columns"'):
        target.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"scale"'):
        target.load_state_dict({**source.state_dict(), "scale": torch.ones(1)})


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": torch.tensor([0, 6])},
        {"columns": torch.tensor([-1, 0])},
        {"columns": torch.tensor([0, 1, 2])},
        {"columns": torch.tensor([0.0, 1.0])},
        {"row_pointers": torch.tensor([0, 1, 2])},
        {"row_pointers": torch.tensor([0, 2, 1, 2, 2])},
        {"row_pointers": torch.tensor([0, 1, 1, 1, 3])},
        {"values": torch.ones(2, 2)},
        {"values": "text"},
        {"values": torch.ones(3)},
    ],
)
def test_malformed_states_are_refused_and_change_nothing(changed: dict[str, Any]) -> None:
    target = nn.Sequential(linear("torch"))
    before = copy.deepcopy(target)
    state = {
        "0.values": torch.ones(2),
        "0.columns": torch.tensor([0, 1], dtype=torch.int32),
        "0.row_pointers": torch.tensor([0, 1, 1, 2, 2], dtype=torch.int32),
        "0.bias": torch.zeros(4),
    }
    copy.deepcopy(target).load_state_dict(state)
    for name, value in changed.items():
        is_index = isinstance(value, Tensor) and not value.is_floating_point()
        state[f"0.{name}"] = value.to(torch.int32) if is_index else value
    with pytest.raises(RuntimeError, match=r"0: .*not a valid CSR matrix of shape \(4, 6\)|0: .*str"):
        target.load_state_dict(state)
    assert same_buffers(target, before)


def test_dense_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"dense weight has shape \(4, 7\), not \(4, 6\)"):
        linear("torch").load_state_dict(nn.Linear(7, 4).state_dict())


@each_kind
@each_backend
def test_dtypes(kind: str, backend: str) -> None:
    make, x = MAKERS[kind]
    module = make(backend)
    module(x)
    for dtype in PRODUCTS[backend]:
        made = copy.deepcopy(module).to(dtype)
        assert made.values.dtype == made.bias.dtype == dtype
        assert made.columns.dtype == made.row_pointers.dtype == torch.int32
        assert made(x.to(dtype)).dtype == dtype


def test_the_old_memory_is_given_back() -> None:
    module = linear("torch")
    module(torch.ones(1, 6))
    assert module._matrix is not None
    module.double()
    assert module._matrix is None


@each_kind
@each_backend
def test_moving_to_shared_memory(kind: str, backend: str) -> None:
    make, x = MAKERS[kind]
    module = make(backend)
    expected = module(x)
    assert module.share_memory() is module
    assert all(buffer.is_shared() for buffer in module.buffers())
    assert torch.equal(module(x), expected)


def _compute(modules: list[CSRModule], x: Tensor, queue: Any) -> None:
    queue.put([module(x).tolist() for module in modules])
    for module in modules:
        module.values.mul_(2)


def test_another_process_shares_the_buffers() -> None:
    make, x = MAKERS["conv"]
    modules = [make(backend).share_memory() for backend in ("native", "scipy", "torch")]
    for module in modules:
        module.bias.zero_()
    expected = [module(x) for module in modules]
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_compute, args=(modules, x, queue))
    process.start()
    assert queue.get() == [out.tolist() for out in expected]
    process.join()
    assert process.exitcode == 0
    # What the other process wrote is here; a copy has seen no earlier values.
    for module, out in zip(modules, expected, strict=True):
        assert torch.equal(copy.deepcopy(module)(x), 2 * out)


@each_backend
def test_made_and_used_in_inference_mode(backend: str) -> None:
    x = MAKERS["linear"][1]
    with torch.inference_mode():
        module = linear(backend)
        module.bias.zero_()
        expected = module(x)
        module.values.mul_(2)
        assert torch.equal(module(x), 2 * expected)
        # Buffers that are made there count no changes.
        assert not module.values.is_inference()
        module.double().float()
        assert module.values.is_inference()
        assert torch.equal(module(x), 2 * expected)
        module.values.mul_(2)
        assert torch.equal(module(x), 4 * expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes(dtype: torch.dtype) -> None:
    dense = sparse_linear(30, 20, 0.9, dtype)
    weight = scipy.sparse.csr_array(dense.weight.detach().numpy())
    expected = weight.data.nbytes + weight.indices.nbytes + weight.indptr.nbytes
    sparse = SparseLinear.from_linear(dense)
    assert sparse.arrays.nbytes == expected
    assert sum(buffer.nbytes for buffer in sparse.buffers()) == expected + 20 * dtype.itemsize
