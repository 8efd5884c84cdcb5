"""Small models that say the same things in many ways, with the layers that a capture should find."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune


class Case(NamedTuple):
    """A model class, its inputs' shapes, and how many layers of which type its graph has."""

    model: type[nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    nodes: dict[str, int]


class Functional(nn.Module):
    """In-place sums, F.relu, view by the batch's size, torch.flatten."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(64, 8)
        self.fc2 = nn.Linear(8, 5)

    def forward(self, x):
        y = F.relu(self.conv(x), inplace=True)
        z = self.conv2(y)
        z += y
        z = torch.flatten(F.max_pool2d(z.relu_(), 2), 2).view(x.size(0), -1)
        return self.fc2(F.dropout(torch.tanh(self.fc(z)), training=self.training))


class Twice(nn.Module):
    """A module used twice, a weight used by two modules, and a value returned twice."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6, bias=False)
        self.tied.weight = self.fc.weight

    def forward(self, x):
        y = self.tied(torch.relu(self.fc(torch.relu(self.fc(x)))))
        return y, torch.sigmoid(y), y


class TwoInputs(nn.Module):
    """Two inputs and a list of outputs, one of them an input."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(5, 4)
        self.right = nn.Linear(3, 4)

    def forward(self, x, y):
        left, right = self.left(x), self.right(y)
        return [torch.cat((left, right), -1), left + right, x]


class Products(nn.Module):
    """Linear layers written as matrix products."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 5))
        self.v = nn.Parameter(torch.randn(5, 4))
        self.u = nn.Parameter(torch.randn(3, 4))
        self.b = nn.Parameter(torch.randn(5))
        self.c = nn.Parameter(torch.randn(4))

    def forward(self, x):
        y = x @ self.w + self.b
        z = torch.addmm(self.c, y, self.v)
        return self.c[:3] + torch.matmul(z, self.u.t())


class Pruned(nn.Module):
    """Masks and parametrizations: weights that are computed."""

    def __init__(self):
        super().__init__()
        self.masked = nn.Linear(6, 5)
        prune.random_unstructured(self.masked, "weight", 0.5)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
        self.fc = nn.Linear(4, 3)
        self.register_buffer("mask", torch.arange(12).reshape(3, 4) % 3 == 0)

    def forward(self, x):
        return F.linear(self.normed(self.masked(x)), self.fc.weight * self.mask, self.fc.bias)


class Norms(nn.Module):
    """BatchNorms after Linear, Conv2d, an activation, a sum, without weights, and over a sequence."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.bn2 = nn.BatchNorm2d(4, affine=False)
        self.fc = nn.Linear(4, 6)
        self.bn3 = nn.BatchNorm1d(6)
        self.tokens = nn.Linear(6, 6)
        self.bn4 = nn.BatchNorm1d(2)
        for bn in (self.bn1, self.bn2, self.bn3, self.bn4):
            nn.init.normal_(bn.running_mean)
            nn.init.uniform_(bn.running_var, 0.5, 2)

    def forward(self, x):
        y = self.bn2(F.silu(self.bn1(self.conv(x))))
        y = F.leaky_relu(self.bn3(self.fc(y.mean((2, 3)))), 0.2)
        return self.bn4(self.tokens(torch.stack((y, -y), 1)))


class Pools(nn.Module):
    """All pools, with padding and ceilings."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=(2, 1), padding=(1, 0))
        self.pools = nn.ModuleList(
            [
                nn.MaxPool2d(3, 2, 1, ceil_mode=True),
                nn.MaxPool2d((2, 3), dilation=(2, 1)),
                nn.AvgPool2d(3, 2, 1, ceil_mode=True),
                nn.AvgPool2d((3, 2), 1, (1, 0), count_include_pad=False),
                nn.AvgPool2d(2, divisor_override=3),
                nn.AdaptiveAvgPool2d((3, 2)),
                nn.AdaptiveAvgPool2d(1),
            ]
        )
        self.mean = nn.AdaptiveAvgPool2d((None, 1))

    def forward(self, x):
        y = self.conv(x)
        pooled = [pool(y).flatten(1) for pool in self.pools]
        return torch.cat(
            [*pooled, self.mean(y).flatten(1), y.mean((-1, -2), keepdim=True).flatten(1)], 1
        )


class Convolutions(nn.Module):
    """Groups, depthwise, dilation, padding by name, and padding that is not zeros."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, padding="same", dilation=2)
        self.even = nn.Conv2d(6, 6, (2, 4), padding="same")
        self.depthwise = nn.Conv2d(6, 12, 3, groups=6, padding="valid")
        self.circular = nn.Conv2d(12, 4, 3, padding=1, padding_mode="circular")
        self.asymmetric = nn.Conv2d(4, 2, 2, padding="same", dilation=3)
        self.transposed = nn.ConvTranspose2d(2, 2, 2)

    def forward(self, x):
        y = F.gelu(self.even(F.relu6(self.grouped(x))))
        y = F.gelu(self.circular(torch.clamp(self.depthwise(y), min=0)), approximate="tanh")
        return self.transposed(self.asymmetric(y)), F.hardtanh(y, 0, 6), torch.softmax(y, 1)


class Paddings(nn.Module):
    """Zeros around images by functions and modules, on some sides only; and other borders."""

    def __init__(self):
        super().__init__()
        self.even = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.behind = nn.Conv2d(4, 4, 3, stride=2)
        self.front = nn.Conv2d(4, 4, (2, 3), groups=2)
        self.dilated = nn.Conv2d(4, 4, 2, dilation=2)
        self.zeros = nn.ZeroPad2d((3, 0, 0, 1))

    def forward(self, x):
        y = self.behind(F.pad(self.even(F.pad(x, (1, 1, 0, 0))), (0, 1, 0, 1)))
        z = self.dilated(F.pad(self.front(self.zeros(y)), (0, 0)))
        kept = F.pad(z, (1, 1), value=2.0)
        return self.dilated(F.pad(kept, (0, 1, 2, 1))), self.front(F.pad(kept, (-1, 0, 0, 0)))


class Attention(nn.Module):
    """torch's attention in every use: self, with masks, cross, tokens first, with weights."""

    def __init__(self):
        super().__init__()
        self.plain = nn.MultiheadAttention(8, 2, batch_first=True)
        self.first = nn.MultiheadAttention(8, 4, bias=False)
        self.cross = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
        self.odd = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
        self.key = nn.Linear(8, 6)
        self.register_buffer("causal", torch.ones(5, 5).triu(1).bool())
        self.register_buffer("bias", torch.randn(5, 5))

    def forward(self, x):
        y, weights = self.plain(x, x, x, attn_mask=self.causal)
        z, _ = self.first(*(x.transpose(0, 1),) * 3, need_weights=False, attn_mask=self.bias)
        memory = self.key(z.transpose(1, 0))
        padding = torch.zeros_like(memory[..., 0]).bool()
        padding[:, -1] = True
        c, heads = self.cross(x, memory, memory, padding, average_attn_weights=False)
        return y + c, weights, heads, self.odd(x, x, x)[0]


class TokensFirst(nn.Module):
    """torch's default encoder layer, of tokens first, in a model of batch first; norms in front."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.embed = nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.encoder(self.embed(x).permute(1, 0, 2))
        return self.head(tokens.transpose(0, 1)[:, 0]), tokens


class Unknown(nn.Module):
    """What the graph has no layer for, next to what it has."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.recurrent = nn.GRU(8, 4, batch_first=True)
        self.table = nn.Parameter(torch.randn(3, 8))

    def forward(self, x):
        y = F.elu(self.norm(self.fc(x)))
        y = torch.cat((y, self.table.expand(x.shape[0], -1, -1)), 1)
        y, _ = self.recurrent(y)
        return F.log_softmax(y.flatten(1), -1) * x.shape[0], y.transpose(1, 2).contiguous().view(
            x.size(0), -1
        )


CASES = {
    "functional": Case(
        Functional, ((3, 8, 8),), {"Conv2d": 2, "Add": 1, "MaxPool2d": 1, "Reshape": 1, "Linear": 2}
    ),
    "twice": Case(Twice, ((6,),), {"Linear": 3, "Elementwise": 1}),
    "two inputs": Case(TwoInputs, ((5,), (3,)), {"Linear": 2, "Concat": 1, "Add": 1}),
    "products": Case(Products, ((6,),), {"Linear": 3}),
    "pruned": Case(Pruned, ((6,),), {"Linear": 3}),
    "norms": Case(
        Norms,
        ((3, 6, 6),),
        {"Conv2d": 1, "Affine": 2, "AdaptiveAvgPool2d": 1, "Reshape": 1, "Linear": 2},
    ),
    "pools": Case(
        Pools,
        ((2, 11, 9),),
        {
            "Conv2d": 1,
            "MaxPool2d": 2,
            "AvgPool2d": 3,
            "AdaptiveAvgPool2d": 4,
            "Reshape": 9,
            "Concat": 1,
        },
    ),
    "convolutions": Case(Convolutions, ((4, 9, 8),), {"Conv2d": 4, "Elementwise": 1, "Softmax": 1}),
    "paddings": Case(Paddings, ((2, 21, 20),), {"Conv2d": 6}),
    "unknown": Case(Unknown, ((2, 6),), {"Linear": 1, "Concat": 1, "Reshape": 2}),
    "attention": Case(Attention, ((5, 8),), {"Linear": 10, "Add": 1, "Reshape": 12, "Softmax": 2}),
    "tokens first": Case(TokensFirst, ((5, 4),), {"Linear": 10, "Add": 4, "Reshape": 8}),
}
