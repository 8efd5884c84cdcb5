"""NaN and batches of none, through whole models."""

import numpy as np
import pytest
import torch
from torch import nn

import inference
from benchmarks.networks import prune_


def images():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 7), nn.Tanh(), nn.Linear(7, 3),
    )  # fmt: skip


MODELS = {
    "engine": (images, (2, 6, 6)),
    "torch between": (lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 2)), (5,)),
    "torch": (lambda: nn.Sequential(nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 2)), (5,)),
}


@pytest.fixture(scope="module", params=MODELS)
def dense(request):
    build, shape = MODELS[request.param]
    torch.manual_seed(0)
    model = build().eval()
    return model, inference.compile(model, torch.zeros(1, *shape), plan="static"), shape


def test_a_batch_of_none(dense):
    model, sparse, shape = dense
    with torch.no_grad():
        expected = model(torch.zeros(0, *shape))
    assert sparse(torch.zeros(0, *shape)).shape == expected.shape
    out = np.zeros(expected.shape, np.float32)
    assert sparse(np.zeros((0, *shape), np.float32), out=out) is out


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_nan_without_zeros_goes_where_torch_takes_it(dense, special, batch):
    model, sparse, shape = dense
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    x[batch // 2].view(-1)[1] = special
    with torch.no_grad():
        expected = model(x)
    torch.testing.assert_close(sparse(x), expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_nan_goes_where_a_weight_leads():
    torch.manual_seed(0)
    model = prune_(nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 9)), 0.85)
    sparse = inference.compile(model, torch.zeros(1, 30), plan="static")
    first, second = model[0].weight != 0, model[2].weight != 0
    for column in range(30):
        x = torch.randn(3, 30)
        x[1, column] = torch.nan
        reached = (second.float() @ first[:, column].float()) > 0
        found = sparse(x)
        assert torch.equal(found[1].isnan(), reached)
        assert found[[0, 2]].isfinite().all()
