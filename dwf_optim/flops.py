"""Floating-point operations of a model's linear and convolution layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.modules.conv._ConvNd)


@torch.no_grad()
def flops_by_layer(model: nn.Module, example: Any) -> dict[str, int]:
    """Count what one forward call computes in linear and convolution layers, as dense arithmetic.

    Args:
        model: Called once, in evaluation mode, and left as it was.
        example: Its input, or a tuple of its inputs.

    Returns:
        Layer name to operations (a multiplication and an addition are two), by
        ``torch.utils.flop_counter``; biases are not counted there.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model(*inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    counts = counter.get_flop_counts()
    root = type(model).__name__
    layers = (name for name, module in model.named_modules() if isinstance(module, LAYERS))
    return {name: sum(counts.get(f"{root}.{name}" if name else root, {}).values()) for name in layers}
