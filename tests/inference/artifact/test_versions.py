"""Files of every version of the format keep loading.

``version_1.dwf`` was saved by ``inference.compile(build(), example(), plan="static").save(...)`` when
version 1 was new. It is never saved anew: a change that it does not survive is a new version.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import inference
from inference.artifact import keys
from inference.artifact.container import READERS

DATA = Path(__file__).parent / "data"


class Model(nn.Module):
    """Of every kind of node that files of the first version have."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.late = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.fc, self.tied = nn.Linear(4, 20), nn.Linear(4, 20, bias=False)
        self.tied.weight = self.fc.weight
        self.scale = nn.LayerNorm(20)
        self.head = nn.Linear(36, 3)

    def forward(self, x):
        y = F.relu(self.norm(self.conv(x)))
        y = F.leaky_relu(self.grouped(y) + y, 0.125)
        y = self.late(torch.sigmoid(y))
        y = F.max_pool2d(F.avg_pool2d(y, 2, 1), 2, 1)
        pooled = F.adaptive_avg_pool2d(y, (1, 1)).flatten(1)
        z = self.scale(self.fc(pooled)) * self.tied(pooled)
        wide = F.adaptive_avg_pool2d(y, (2, 2)).flatten(1)
        return torch.softmax(self.head(torch.cat((F.gelu(z), wide), 1)), 1), y.shape[0] * pooled


def build():
    """Fill a model with numbers that are exact in any arithmetic, most of the weights zero."""
    model = Model().eval()
    with torch.no_grad():
        for k, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                numbers = (torch.arange(tensor.numel()) * (2 * k + 3)) % 17
                numbers = (numbers - 4) * (numbers < 5 if tensor.dim() >= 2 else 1) / 8
                tensor.copy_(numbers.view(tensor.shape))
        for norm in (model.norm, model.late):
            norm.running_var.abs_().add_(1)
            norm.num_batches_tracked.fill_(7)
    return model


def example():
    return (torch.arange(2 * 2 * 6 * 6) % 23).view(2, 2, 6, 6) / 8 - 1


def test_there_is_a_file_of_every_version():
    assert {path.name for path in DATA.iterdir()} == {f"version_{version}.dwf" for version in READERS}
    assert str(keys.VERSION) in READERS


@pytest.mark.parametrize("version", READERS)
def test_old_files_load(version):
    model, x = build(), example()
    loaded = inference.load(DATA / f"version_{version}.dwf")
    expected = model.state_dict()
    found = loaded.to_dense()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    with torch.no_grad():
        outputs = model.double()(x.double())
    for output, truth in zip(loaded(x), outputs, strict=True):
        assert (output - truth).norm() <= 1e-5 * truth.norm()
