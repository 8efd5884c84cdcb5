"""Writes smaller layers into the modules that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inference.dead_units.removal import take_units
from inference.graph import Affine, Conv2d, Linear
from inference.shrinking.removal import Removal


def resize_(model: nn.Module, removal: Removal, paths: Mapping[str, str]) -> None:
    """Take the units that go out of a model's modules, in place.

    Parameters that change are replaced by new ones, without gradients; the others stay.

    Args:
        model: The model that was analyzed, or a copy in any dtype.
        removal: What goes.
        paths: For the output of each layer, the path of its module.
    """
    for node in removal.graph.nodes:
        if node.output not in paths:
            continue
        module = model.get_submodule(paths[node.output])
        if isinstance(node, Linear | Conv2d):
            small = take_units(removal.graph, removal.units, node, removal.kept)
            _set_layer(cast("nn.Linear | nn.Conv2d", module), small)
        elif isinstance(node, Affine):
            _set_norm(cast(_BatchNorm, module), removal.kept[node.output])


def set_parameter(module: nn.Module, name: str, value: Tensor, like: Tensor) -> None:
    """Replace a parameter, unless it has the value already.

    Args:
        module: The module.
        name: Of the parameter.
        value: In any dtype, on any device.
        like: A parameter whose dtype, device and ``requires_grad`` the new one gets.
    """
    old = getattr(module, name)
    value = value.detach().to(like)
    if old is None or old.shape != value.shape or not torch.equal(old, value):
        setattr(module, name, nn.Parameter(value.clone(), requires_grad=like.requires_grad))


def _set_layer(module: nn.Linear | nn.Conv2d, small: Linear | Conv2d) -> None:
    weight = module.weight
    set_parameter(module, "weight", small.weight, weight)
    if small.bias is not None:
        set_parameter(module, "bias", small.bias, weight if module.bias is None else module.bias)
    if isinstance(module, nn.Conv2d):
        module.groups = small.groups if isinstance(small, Conv2d) else 1
        module.in_channels = small.weight.shape[1] * module.groups
        module.out_channels = len(small.weight)
    else:
        module.out_features, module.in_features = small.weight.shape


def _set_norm(module: _BatchNorm, kept: Tensor) -> None:
    if bool(kept.all()):
        return
    module.num_features = int(kept.sum())
    for name, parameter in list(module.named_parameters(recurse=False)):
        set_parameter(module, name, parameter[kept.to(parameter.device)], parameter)
    for name in ("running_mean", "running_var"):
        buffer = getattr(module, name)
        setattr(module, name, buffer[kept.to(buffer.device)].clone())
