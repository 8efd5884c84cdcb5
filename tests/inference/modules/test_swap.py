"""A model whose layers are swapped computes what it did."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

import inference
from inference import SparseConv2d, SparseLinear, sparse_modules
from tests.inference.formats.common import each_backend, random_weight
from tests.inference.modules.common import (
    assert_within,
    reference_and_bound,
    same_buffers,
    sparse_conv,
    sparse_linear,
)


def network_bound(model: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs in float64, and the bounds of all layers carried on. ReLU adds nothing."""
    exact, error = x.double(), torch.zeros_like(x, dtype=torch.float64)
    for layer in model:
        if isinstance(layer, nn.Linear):
            exact, error = reference_and_bound(layer, exact, error)
        else:
            exact = layer(exact)
    return exact, error


def lenet(sparsity: float) -> nn.Sequential:
    return nn.Sequential(
        sparse_linear(784, 300, sparsity),
        nn.ReLU(),
        sparse_linear(300, 100, sparsity, seed=1),
        nn.ReLU(),
        sparse_linear(100, 10, sparsity, seed=2),
    )


@each_backend
def test_lenet_300_100(backend: str) -> None:
    model = lenet(0.98)
    x = random_weight((64, 784), 0, seed=3)
    sparse = sparse_modules(model, backend)
    exact, bound = network_bound(model, x)
    assert_within(sparse(x), exact, bound)
    assert bound.max() < 1e-2 * exact.abs().max(), "a bound that wide would prove nothing"
    held = sum(buffer.nbytes for buffer in sparse.buffers())
    assert held < sum(parameter.nbytes for parameter in model.parameters()) / 10


@each_backend
def test_equals_the_compiled_model(backend: str) -> None:
    model = nn.Sequential(
        sparse_conv(3, 8, 3, padding=1, sparsity=0.8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        sparse_conv(8, 6, 3, stride=2, sparsity=0.8, seed=1),
        nn.Flatten(),
        sparse_linear(54, 10, 0.9, seed=2),
    ).eval()
    x = random_weight((4, 3, 16, 16), 0, seed=3)
    compiled = inference.compile(model, x, plan="static")
    torch.testing.assert_close(sparse_modules(model, backend)(x), compiled(x), rtol=1e-5, atol=1e-5)


@given(
    sparsities=st.lists(st.sampled_from([0.0, 0.4, 0.6, 1.0]), min_size=1, max_size=4),
    min_sparsity=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_swaps_what_is_sparse_enough(sparsities: list[float], min_sparsity: float) -> None:
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in sparsities))
    for layer, sparsity in zip(model, sparsities, strict=True):
        with torch.no_grad():
            layer.weight.fill_(1)
            layer.weight.view(-1)[: round(100 * sparsity)] = 0
    wanted = [sparsity >= min_sparsity for sparsity in sparsities]
    if not any(wanted):
        with pytest.warns(UserWarning, match=rf"of {len(wanted)} .* sparsest has {max(sparsities):.0%}"):
            made = sparse_modules(model, min_sparsity=min_sparsity)
    else:
        made = sparse_modules(model, min_sparsity=min_sparsity)
    assert [isinstance(layer, SparseLinear) for layer in made] == wanted


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Odd(nn.Module):
    """Shares a module, refers to one in a plain list, ties a weight, and holds a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = sparse_linear(6, 6, 0.7)
        self.again = self.fc
        self.plain = [self.fc]
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.fc.weight
        self.doubled = Doubled(6, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.doubled(self.tied(self.again(self.plain[0](self.fc(x))))))


def test_odd_models() -> None:
    model = Odd().train()
    with torch.no_grad():
        model.doubled.weight.zero_()
        model.doubled.weight[0] = 1
    sparse = sparse_modules(model)
    assert sparse.fc is sparse.again is sparse.plain[0]
    assert isinstance(sparse.fc, SparseLinear)
    assert isinstance(sparse.tied, SparseLinear)
    assert type(sparse.doubled) is Doubled
    x = random_weight((3, 6), 0)
    expected = copy.deepcopy(model).eval()(x)
    torch.testing.assert_close(sparse(x), expected.detach(), rtol=1e-5, atol=1e-5)
    assert not sparse.training
    assert not any(parameter.requires_grad for parameter in sparse.parameters())
    # The model is as it was.
    assert model.training
    assert type(model.fc) is nn.Linear
    assert all(parameter.requires_grad for parameter in model.parameters())


@each_backend
def test_torchs_attention_and_encoder(backend: str) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(torch.rand_like(parameter) > 0.7)
    sparse = sparse_modules(model, backend)
    assert isinstance(sparse.linear1, SparseLinear)
    x = random_weight((2, 5, 8), 0)
    with torch.no_grad():
        # Its fast path reads the weights themselves, the other calls the modules.
        torch.testing.assert_close(sparse(x), model(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sparse(x, is_causal=True, src_mask=torch.zeros(5, 5)), model(x))


def test_a_model_that_is_one_layer() -> None:
    assert isinstance(sparse_modules(sparse_conv(1, 2, 2), min_sparsity=0), SparseConv2d)
    assert isinstance(sparse_modules(sparse_linear(3, 2), min_sparsity=0), SparseLinear)


def test_state_goes_from_one_to_another() -> None:
    source, target = sparse_modules(lenet(0.98)), sparse_modules(lenet(0.9))
    target.load_state_dict(source.state_dict())
    assert same_buffers(source, target)


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got Tensor"):
        sparse_modules(torch.ones(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown backend 'mkl'"):
        sparse_modules(sparse_linear(2, 2, 1.0), "mkl")
    half = nn.Sequential(nn.Sequential(sparse_linear(2, 2, 1.0, torch.float16)))
    with pytest.raises(TypeError, match=re.escape("module '0.0': SciPy has no torch.float16")):
        sparse_modules(half, "scipy")
    pruned = nn.Sequential(nn.Linear(4, 4))
    prune.random_unstructured(pruned[0], "weight", 0.5)
    with pytest.raises(ValueError, match=r"module '0' has forward hooks, .*prune\.remove"):
        sparse_modules(pruned)
    prune.remove(pruned[0], "weight")
    assert isinstance(sparse_modules(pruned)[0], SparseLinear)
    with pytest.warns(UserWarning, match="no module was swapped: of 0 Linear and Conv2d modules"):
        sparse_modules(nn.ReLU())
