"""Layers with random sparse weights, their outputs in float64, and how far others may be off."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tests.inference.formats.common import random_weight, rounding


def sparse_linear(
    fan_in: int,
    fan_out: int,
    sparsity: float = 0.5,
    dtype: torch.dtype = torch.float32,
    *,
    bias: bool = True,
    seed: int = 0,
) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=bias)  # Widths of zero make torch's own initialization warn.
    layer.in_features, layer.out_features = fan_in, fan_out
    layer.weight = nn.Parameter(random_weight((fan_out, fan_in), sparsity, dtype, seed))
    if bias:
        layer.bias = nn.Parameter(random_weight((fan_out,), 0, dtype, seed + 1))
    return layer


def sparse_conv(
    *args: Any, sparsity: float = 0.5, dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any
) -> nn.Conv2d:
    layer = nn.Conv2d(*args, **options, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(random_weight(tuple(layer.weight.shape), sparsity, dtype, seed))
        if layer.bias is not None:
            layer.bias.copy_(random_weight(tuple(layer.bias.shape), 0, dtype, seed + 1))
    return layer


def reference_and_bound(
    layer: nn.Linear | nn.Conv2d, x: Tensor, error: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """The dense output in float64, and how far one in the layer's dtype may be off.

    Args:
        layer: The dense layer.
        x: Its input, exact.
        error: How far what the layer under test is given may be off that.
    """
    terms = prod(layer.weight.shape[1:])
    exact = copy.deepcopy(layer).double().requires_grad_(False)
    size = copy.deepcopy(exact)
    size.weight.abs_()
    linear = copy.deepcopy(size)
    linear.bias = None
    if size.bias is not None:
        size.bias.abs_()
    errors = torch.zeros_like(x, dtype=torch.float64) + error
    sizes = size(x.double().abs() + errors)
    return exact(x.double()), linear(errors) + rounding(terms, sizes, layer.weight.dtype)


def assert_within(result: Tensor, exact: Tensor, bound: Tensor) -> None:
    assert result.shape == exact.shape
    assert torch.all((result.double() - exact).abs() <= bound)


def same_buffers(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
