"""The weights of a whole model, by name, and back into one."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from inference import CSRWeights, from_csr, to_csr
from tests.inference.formats.common import bits, each_backend, each_matrix, random_weight, size


def model(dtype: torch.dtype = torch.float32, sparsity: float = 0.7, seed: int = 0) -> nn.Module:
    made = nn.ModuleDict(
        {
            "image": nn.Conv2d(4, 6, (3, 2), groups=2),
            "sound": nn.Conv1d(2, 3, 5, bias=False),
            "video": nn.Conv3d(1, 2, (1, 2, 3)),
            "body": nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 1)),
            "attention": nn.MultiheadAttention(4, 2, kdim=3),
            "words": nn.Embedding(7, 3),
        }
    ).to(dtype)
    with torch.no_grad():
        for k, p in enumerate(made.parameters()):
            p.copy_(random_weight(tuple(p.shape), sparsity, dtype, seed + k))
    return made


NAMES = {
    "image.weight",
    "sound.weight",
    "video.weight",
    "body.0.weight",
    "body.2.weight",
    "attention.q_proj_weight",
    "attention.k_proj_weight",
    "attention.v_proj_weight",
    "attention.out_proj.weight",
}


@each_matrix
@given(sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]), seed=st.integers(0, 2**16))
def test_all_weights_and_back(backend: str, dtype: torch.dtype, sparsity: float, seed: int) -> None:
    source = model(dtype, sparsity, seed)
    weights = to_csr(source, backend=backend)
    assert isinstance(weights, Mapping)
    assert set(weights) == set(weights.shapes) == NAMES
    state = source.state_dict()
    dense = from_csr(weights)
    for name, weight in dense.items():
        assert weight.shape == weights.shapes[name] == state[name].shape
        assert weight.dtype == dtype
        assert bits(weight + 0.0) == bits(state[name] + 0.0)
        assert size(weights[name]) == weight.flatten(1).shape
    blank = model(dtype, sparsity=1.0)
    result = blank.load_state_dict(dense, strict=False)
    assert not result.unexpected_keys
    written = model(dtype, sparsity=1.0)
    weights.write_into(written)
    for name, tensor in written.state_dict().items():
        assert torch.equal(tensor, blank.state_dict()[name])
        assert torch.equal(tensor, state[name] if name in NAMES else torch.zeros_like(tensor))


@each_backend
def test_later_training_does_not_change_them(backend: str) -> None:
    source = nn.Linear(3, 2)
    before = source.weight.detach().clone()
    weights = to_csr(source, backend=backend)
    with torch.no_grad():
        source.weight.add_(1)
    assert torch.equal(from_csr(weights)["weight"], before)


def test_one_parameter_under_two_names() -> None:
    shared, tied = nn.Linear(3, 3), nn.Linear(3, 3)
    tied.weight = shared.weight
    source = nn.Sequential(shared, nn.ReLU(), shared, tied)
    weights = to_csr(source)
    assert list(weights) == ["0.weight", "2.weight", "3.weight"]
    assert weights["0.weight"] is weights["2.weight"] is weights["3.weight"]
    target = copy.deepcopy(source)
    nn.init.zeros_(target[0].weight)
    weights.write_into(target)
    assert torch.equal(target[3].weight, shared.weight)


def test_writing_keeps_dtype_and_parameters() -> None:
    source = nn.Linear(3, 2, dtype=torch.bfloat16)
    target = copy.deepcopy(source)
    nn.init.zeros_(target.weight)
    parameter = target.weight
    to_csr(copy.deepcopy(source).float()).write_into(target)
    assert target.weight is parameter
    assert parameter.dtype == torch.bfloat16
    assert parameter.requires_grad
    assert torch.equal(parameter, source.weight)


def test_nothing_is_written_where_something_does_not_fit() -> None:
    weights = to_csr(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)))
    target = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    before = target[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"'1\.weight' has shape \(5, 2\), .* converted \(4, 2\)"):
        weights.write_into(target)
    with pytest.raises(ValueError, match=r"has no parameter '1\.weight'"):
        weights.write_into(target[:1])
    assert torch.equal(target[0].weight, before)


def test_dtypes_of_models() -> None:
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.float16))
    with pytest.raises(TypeError, match=r"'1\.weight': SciPy has no torch\.float16: .*float\(\)"):
        to_csr(mixed)
    dense = from_csr(to_csr(mixed, backend="torch"))
    assert [weight.dtype for weight in dense.values()] == [torch.float32, torch.float16]
    halves = from_csr(to_csr(copy.deepcopy(mixed).float()), dtype=torch.float16)
    assert {weight.dtype for weight in halves.values()} == {torch.float16}


def test_models_without_weights_or_with_computed_ones() -> None:
    with pytest.raises(ValueError, match=r"Sequential has no Linear, .*to_csr\(module\.weight\)"):
        to_csr(nn.Sequential(nn.ReLU(), nn.Embedding(3, 2)))
    with pytest.raises(ValueError, match=r"'1\.weight' is not initialized yet"):
        to_csr(nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2)))
    pruned = nn.Sequential(nn.Linear(4, 4))
    prune.random_unstructured(pruned[0], "weight", 0.5)
    with pytest.raises(ValueError, match=r"'0\.weight' is not a parameter .*prune\.remove"):
        to_csr(pruned)
    prune.remove(pruned[0], "weight")
    assert to_csr(pruned)["0.weight"].nnz == 8
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"'0\.weight' is not a parameter .*remove_parametrizations"):
        to_csr(normed)
    with pytest.raises(ValueError, match="have their own shapes"):
        from_csr(to_csr(nn.Linear(2, 2)), shape=(2, 2))


def test_it_is_a_mapping_that_does_not_change() -> None:
    weights = to_csr(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)))
    assert isinstance(weights, CSRWeights)
    assert len(weights) == 2
    assert "0.weight" in weights
    assert repr(weights) == "CSRWeights(0.weight: (2, 3), 1.weight: (4, 2))"
    with pytest.raises(TypeError):
        weights.shapes["0.weight"] = torch.Size([3, 2])  # type: ignore[index]
