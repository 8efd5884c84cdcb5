"""Random models through all of `compile`, BatchNorm and capture included, against float64."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import inference
from inference import native

# Tracing one takes about as long as all examples of the other properties together.
FEW = settings(max_examples=max(4, settings.default.max_examples // 10))

ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Identity]


class Block(nn.Module):
    """A convolution, BatchNorm and an activation, then nothing, a sum, or both side by side."""

    def __init__(self, conv, activation, join):
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)
        self.activation, self.join = activation, join
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        y = self.activation(self.norm(self.conv(x)))
        if self.join == "sum" and y.shape[1:] == x.shape[1:]:
            return F.relu(x + y)
        if self.join == "concat" and y.shape[2:] == x.shape[2:]:
            return torch.cat((y, x), 1)
        return y


@st.composite
def models(draw):
    """Draw blocks on images, then layers on features, with zeros in weights and in whole units."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    channels, size, layers = draw(st.integers(1, 4)), 9, []
    shape = (channels, size, size)
    for _ in range(draw(st.integers(0, 3))):
        groups = draw(st.sampled_from([1, channels]))
        made = groups * draw(st.integers(1, 3))
        stride, dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        same = draw(st.booleans())
        options = {"stride": 1 if same else stride, "dilation": dilation, "groups": groups}
        made = channels if same else made
        conv = nn.Conv2d(channels, made, 3, padding=dilation, **options, bias=draw(st.booleans()))
        activation = draw(st.sampled_from(ACTIVATIONS))()
        layers.append(Block(conv, activation, draw(st.sampled_from(["", "sum", "concat"]))))
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(3, 1, 1))
        with torch.no_grad():
            _, channels, size, _ = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape
    layers += [nn.AdaptiveAvgPool2d(draw(st.integers(1, 3)))] if draw(st.booleans()) else []
    layers.append(nn.Flatten())
    with torch.no_grad():
        features = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    for _ in range(draw(st.integers(1, 3))):
        made = draw(st.integers(1, 20))
        layers += [nn.Linear(features, made), draw(st.sampled_from(ACTIVATIONS))(), nn.Dropout()]
        features = made
    layers += [nn.BatchNorm1d(features)] * draw(st.integers(0, 1))
    layers += [nn.Softmax(1)] * draw(st.integers(0, 1))
    model = nn.Sequential(*layers)
    zeros, dead = draw(st.sampled_from([(0.0, 0.0), (0.7, 0.3), (0.95, 0.1), (1.0, 0.0)]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= torch.rand(parameter.shape) >= zeros
                parameter[torch.rand(len(parameter)) < dead] = 0
    return model, shape


@FEW
@given(models(), st.integers(1, 33), st.sampled_from(["static", *native.KERNELS]), st.booleans())
def test_random_models(drawn, batch, kernels, train):
    model, shape = drawn
    model.train(train)
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
    plan = "static"
    if kernels != "static":
        names = [name for name, module in model.named_modules() if hasattr(module, "weight")]
        plan = inference.Plan("forced", {1: inference.Choice(kernels=dict.fromkeys(names, kernels))})
    # compile itself compares, too, where outputs may cancel by what rounding does to them.
    sparse = inference.compile(model, x, plan=plan)
    assert model.training == train
    with torch.no_grad():
        expected = copy.deepcopy(model).eval().double()(x.double())
    bound = 1e-5 * expected.norm() + 16 * (_in_float32(model, x) - expected).norm()
    assert (sparse(x).double() - expected).norm() <= bound


def _in_float32(model, x):
    """Compute by torch: what rounding does to outputs that cancel."""
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x).double()
