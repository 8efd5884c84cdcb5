"""With one root a weight, too, a zero stays zero, and the weight's sign survives it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, sparsify
from tests.helpers import BASES, Base, dwf, mlp, seeded, step_with, train
from tests.storage.problem import even_depths_allowed

BY_NAME = {base.name: base for base in BASES}
LEAN = ["tied", "ephemeral"]
some_bases = pytest.mark.parametrize("name", ["SGD", "SGD-momentum", "Adam", "AdamW"])
every_depth = pytest.mark.parametrize("depth", [2, 3, 4])


def state_of(optimizer: DWFOptimizer, p: Parameter) -> list[torch.Tensor]:
    values = optimizer.state[p].values()
    return [v for v in values if isinstance(v, torch.Tensor) and v.shape == p.shape]


def lean(model: torch.nn.Module, base: Base, **options: object) -> DWFOptimizer:
    with even_depths_allowed():
        return dwf(model, base, **options)


@pytest.mark.parametrize("storage", LEAN)
@some_bases
@every_depth
def test_zeros_of_sparsify_stay_while_the_rest_trains_on(storage: str, name: str, depth: int) -> None:
    model = mlp()
    optimizer = lean(model, BY_NAME[name], storage=storage, depth=depth, lr=0.02)
    train(model, optimizer, 5)
    sparsify(model, optimizer, sparsity=0.6)
    weight = model[2].weight
    mask = weight == 0
    before = weight.detach().clone()
    train(model, optimizer, 30)
    assert mask.any()
    assert not weight[mask].any()
    assert bool((weight != before)[~mask].all())
    assert all(not tensor[mask].any() for tensor in state_of(optimizer, weight))


@pytest.mark.parametrize("storage", LEAN)
@some_bases
@every_depth
def test_zeros_from_outside_stay_and_clear_the_state(storage: str, name: str, depth: int) -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight[1] = 0  # at the start
    optimizer = lean(model, BY_NAME[name], storage=storage, depth=depth, lr=0.02)
    train(model, optimizer, 5)
    mask = torch.rand(model[0].weight.shape, generator=seeded(3)) < 0.4
    model[0].weight.data.masked_fill_(mask, 0)  # without a trace
    mask[1] = True
    train(model, optimizer, 30)
    assert not model[0].weight[mask].any()
    assert bool((model[0].weight[~mask] != 0).all())
    assert all(not tensor[mask].any() for tensor in state_of(optimizer, model[0].weight))


@pytest.mark.parametrize("storage", LEAN)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_flush_makes_the_dead_zero_and_leaves_nan(storage: str, depth: int) -> None:
    tiny = torch.finfo(torch.float32).tiny
    weight = Parameter(torch.tensor([[1.0, 2 * tiny, -2 * tiny, 1.0]]))
    with even_depths_allowed():
        optimizer = DWFOptimizer(
            [weight], 0.5, momentum=0.9, penalty=1.5, depth=depth, lr_scale=1.0, storage=storage
        )
    step_with(optimizer, {weight: torch.tensor([[0.0, 0.0, 0.0, torch.nan]])})
    assert weight[0, 0] > 0
    assert weight[0, 3].isnan()
    for tensor in [weight, *state_of(optimizer, weight), *optimizer.factors(weight)]:
        assert not tensor[0, 1:3].any()


@pytest.mark.parametrize("storage", LEAN)
def test_an_all_zero_tensor_is_said_to_stay_zero(storage: str) -> None:
    weight = Parameter(torch.zeros(3, 4))
    optimizer = DWFOptimizer([("up", weight)], 0.1, penalty=1e-3, storage=storage)
    with pytest.warns(UserWarning, match="up of shape .* stays zero; storage='full' would train it"):
        step_with(optimizer, {weight: torch.ones(3, 4)})
    assert not weight.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_sign_outlives_a_weight_that_rounds_to_zero(dtype: torch.dtype) -> None:
    """Even depth: half-precision weights are zero long before their root is."""
    weight = Parameter(torch.tensor([[0.5, -0.5]], dtype=dtype))
    with even_depths_allowed():
        optimizer = DWFOptimizer(
            [weight], 0.1, penalty=0.0, depth=2, lr_scale=1.0, storage="tied", flush=None
        )
    optimizer.factors(weight)
    root = optimizer.state[weight]["root"]
    # As if decay had made the root small: its square is no number of the weight's dtype.
    root.fill_(1e-30 if dtype == torch.float32 else 1e-6)
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    assert not weight.any()
    root.fill_(0.5)
    step_with(optimizer, {weight: torch.zeros_like(weight)})
    assert torch.equal(weight.detach(), torch.tensor([[0.25, -0.25]], dtype=dtype))
