"""What cannot get smaller stays, and is named."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import inference


def mlp(*sizes):
    """Linear layers of which the odd neurons are dead, all but the last's."""
    torch.manual_seed(0)
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(sizes)]
    for layer in layers[:-1]:
        with torch.no_grad():
            layer.weight[1::2] = 0
    return layers


def widths(model):
    return [m.out_features for m in model.modules() if isinstance(m, nn.Linear)]


def assert_same(model, small, *shape):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)


class FixedViews(nn.Module):
    """A view of a fixed size keeps what it says; the rest gets smaller."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2 = mlp(6 * 4 * 4, 8, 5)
        with torch.no_grad():
            self.conv1.weight[1::2] = 0
            self.conv2.weight[1::2] = 0

    def forward(self, x):
        y = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc2(torch.relu(self.fc1(y.view(-1, 96))))


def test_views_of_a_fixed_size():
    model = FixedViews()
    small, report = inference.shrink_with_report(model, torch.zeros(2, 1, 8, 8))
    assert (small.conv1.out_channels, small.conv2.out_channels) == (2, 6)
    assert (small.fc1.in_features, small.fc1.out_features) == (96, 4)
    (stuck,) = report.stuck
    assert (stuck.name, stuck.count) == ("conv2", 3)
    assert "forward would fail: RuntimeError" in stuck.reason
    assert_same(model, small, 1, 8, 8)
    # Without a trial nobody sees.
    broken = inference.shrink(model, torch.zeros(2, 1, 8, 8), check=False)
    assert broken.conv2.out_channels == 3
    with pytest.raises(RuntimeError):
        broken(torch.zeros(2, 1, 8, 8))


class TrainsOtherwise(nn.Module):
    """Has a second head in train mode, which torch.export does not see."""

    def __init__(self):
        super().__init__()
        self.body, self.head = mlp(4, 6, 3)
        self.auxiliary = nn.Linear(6, 3)

    def forward(self, x):
        y = torch.relu(self.body(x))
        return (self.head(y), self.auxiliary(y)) if self.training else self.head(y)


def test_what_only_training_reads_stays():
    model = TrainsOtherwise().eval()
    small, report = inference.shrink_with_report(model, torch.zeros(2, 4))
    assert widths(small) == [6, 3, 3]
    assert [(s.name, s.count) for s in report.stuck] == [("body", 3)]
    assert "in training" in report.stuck[0].reason
    assert len(small.train()(torch.zeros(2, 4))) == 2


def test_random_numbers_of_the_user_are_left_alone():
    model = nn.Sequential(*mlp(4, 6, 3), nn.Dropout())
    state = torch.random.get_rng_state()
    inference.shrink(model, torch.zeros(2, 4))
    assert torch.equal(torch.random.get_rng_state(), state)


def shared():
    first, last = mlp(4, 4, 3)
    return nn.Sequential(first, nn.ReLU(), first, nn.ReLU(), last)


def tied():
    first, last = mlp(4, 4, 3)
    other = nn.Linear(4, 4)
    other.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), other, nn.ReLU(), last)


def parametrized():
    first, last = mlp(4, 6, 3)

    class Same(nn.Module):
        def forward(self, w):
            return w * 1.0

    nn.utils.parametrize.register_parametrization(first, "weight", Same())
    return nn.Sequential(first, nn.ReLU(), last)


def normed():
    first, last = mlp(4, 6, 3)
    return nn.Sequential(first, nn.LayerNorm(6), last)


class Fixed(nn.Module):
    """A product that is no layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = mlp(4, 6, 3)
        self.scale = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return self.last(F.relu(self.first(x)) * self.scale)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (shared, "used more than once"),
        (tied, "used more than once"),
        (parametrized, "is no parameter of a Linear, Conv2d or BatchNorm module"),
        (normed, "aten.layer_norm.default in '1' needs all of them"),
        (Fixed, "aten.mul.Tensor"),
    ],
)
def test_reasons(build, reason, caplog):
    model = build()
    small, report = inference.shrink_with_report(model, torch.zeros(2, 4))
    assert widths(small) == widths(model)
    assert reason in report.stuck[0].reason
    assert report.stuck[0].count == widths(model)[0] // 2
    assert str(report.stuck[0]) in str(report)
    assert_same(model, small, 4)
    with caplog.at_level(logging.INFO, logger="inference"):
        inference.shrink(model, torch.zeros(2, 4))
    assert reason in caplog.text


def test_inputs_and_outputs_are_named():
    first, last = mlp(6, 4, 4)
    with torch.no_grad():
        first.weight[:, [1, 2]] = 0
        last.weight[3] = 0
    small, report = inference.shrink_with_report(nn.Sequential(first, last), torch.zeros(1, 6))
    assert widths(small) == [2, 4]
    assert {(s.name, s.what, s.count, s.reason) for s in report.stuck} == {
        ("0", "inputs", 2, "input of the model"),
        ("1", "outputs", 1, "output of the model"),
    }


def test_nothing_dead_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    small, report = inference.shrink_with_report(model, torch.zeros(1, 4))
    assert all(map(torch.equal, small.parameters(), model.parameters()))
    assert report.parameters[0] == report.parameters[1]
    assert not report.stuck
    assert report.certificate.max_difference == 0


def test_given_inputs_are_compared():
    model = nn.Sequential(nn.Embedding(9, 4), *mlp(4, 6, 3))
    ids = [[torch.randint(9, (5, 2))] for _ in range(3)]
    _, report = inference.shrink_with_report(model, ids[0], inputs=ids[1:])
    assert report.certificate.batches == 3


class Casts(nn.Module):
    """Insists on float32."""

    def __init__(self):
        super().__init__()
        self.first, self.last = mlp(4, 6, 3)

    def forward(self, x):
        return self.last(F.linear(x.float(), self.first.weight, self.first.bias))


def test_a_model_that_does_not_run_in_float64():
    with pytest.raises(ValueError, match=r"does not run in float64.*check=False"):
        inference.shrink(Casts(), torch.zeros(2, 4))
    small = inference.shrink(Casts(), torch.zeros(2, 4), check=False)
    assert widths(small) == [3, 3]


def test_what_cannot_be_captured():
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        inference.shrink(torch.zeros(3), torch.zeros(2, 4))
    pruned = prune.l1_unstructured(nn.Linear(4, 6), "weight", 2)
    with pytest.raises(ValueError, match=r"cannot be copied.*remove\(\) first"):
        inference.shrink(nn.Sequential(pruned, nn.Linear(6, 3)), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no parameters"):
        inference.shrink(nn.ReLU(), torch.zeros(2, 4))
