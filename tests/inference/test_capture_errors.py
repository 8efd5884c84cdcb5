"""What cannot be captured is refused with the reason and, where there is one, the module's path."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inference.capture import capture


class Part(nn.Module):
    """A submodule whose forward is given."""

    def __init__(self, forward):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.compute = forward

    def forward(self, x):
        return self.compute(self, self.fc(x))


def whole(forward):
    return nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"part": Part(forward)})["part"])


def branches_on_data(self, x):
    return x if x.sum() > 0 else -x


def branches_on_batch(self, x):
    return x if x.shape[0] > 5 else -x


def one_batch_only(self, x):
    return x.reshape(2, 2, 2)


def conditional(self, x):
    return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


def strided(self, x):
    return x.as_strided((x.shape[0], 2), (4, 1))


@pytest.mark.parametrize("forward", [branches_on_data, conditional, strided])
def test_untraceable_modules_are_named(forward):
    with pytest.raises(ValueError, match="module '1' cannot be captured"):
        capture(whole(forward), torch.randn(2, 4))


@pytest.mark.parametrize("forward", [branches_on_batch, one_batch_only])
def test_models_for_some_batches_only(forward):
    with pytest.raises(
        ValueError, match=r"captured for any batch size.*Constraints violated.*must be the batch$"
    ):
        capture(whole(forward), torch.randn(2, 4))


def counts(self, x):
    self.calls += 1
    return x


def test_buffers_that_change():
    model = whole(counts)
    with pytest.raises(ValueError, match=r"changes its buffers \['1.calls'\]"):
        capture(model, torch.randn(2, 4))
    assert model[1].calls == 0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda self, x: {"y": x}, "a tuple or list of tensors, got <class 'dict'>"),
        (lambda self, x: (x, (x, x)), "a tuple or list of tensors, got <class 'tuple'>"),
        (lambda self, x: (x, None), "tensors only, got None"),
        (lambda self, x: (x, x.shape[0]), "tensors only, got sym_size"),
    ],
)
def test_outputs_that_are_not_tensors(result, message):
    with pytest.raises(ValueError, match=message):
        capture(whole(result), torch.randn(2, 4))


def linear(weight):
    module = nn.Linear(4, 4, bias=False)
    module.weight = nn.Parameter(weight, requires_grad=False)
    return module


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: torch.relu, "must be a torch.nn.Module in Python, got builtin"),
        (lambda: nn.LazyLinear(4), "'weight' has no shape yet; call the model"),
        (lambda: nn.Linear(4, 4, device="meta"), "'weight' is on the meta device"),
        (
            lambda: linear(torch.eye(4).to_sparse()),
            "'weight' must be a dense tensor, got torch.sparse_coo",
        ),
        (lambda: linear(torch.ones(4, 4, dtype=torch.int8)), "'weight' has dtype torch.int8; quantized"),
        (lambda: linear(torch.ones(4, 4, dtype=torch.cfloat)), "'weight' has dtype torch.complex64"),
    ],
)
def test_models_of_another_kind(model, message):
    with pytest.raises(TypeError, match=message):
        capture(model(), torch.zeros(2, 4))


def test_no_parameters():
    with pytest.raises(ValueError, match="no parameters"):
        capture(nn.ReLU(), torch.zeros(2, 4))


@pytest.mark.parametrize("example", [[[1.0]], None, {"x": torch.zeros(2, 4)}])
def test_examples_of_another_kind(example):
    with pytest.raises(TypeError, match="example must be a tensor or a tuple of tensors, got"):
        capture(nn.Linear(4, 4), example)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((), "with a batch of 1 or more"),
        (torch.zeros(()), "with a batch of 1 or more"),
        (torch.zeros(0, 4), "with a batch of 1 or more"),
        ((torch.zeros(2, 4), torch.zeros(3, 4)), r"one batch size, got shapes \[\(2, 4\), \(3, 4\)\]"),
    ],
)
def test_bad_batches(example, message):
    with pytest.raises(ValueError, match=message):
        capture(nn.Linear(4, 4), example)


def test_example_that_does_not_fit():
    with pytest.raises(ValueError, match="module '0' cannot be captured"):
        capture(nn.Sequential(nn.Linear(4, 4)), torch.zeros(2, 5))
