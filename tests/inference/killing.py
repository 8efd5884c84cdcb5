"""Kills groups of a model: filters, neurons, input features, heads."""

from __future__ import annotations

import itertools

import torch
from hypothesis import strategies as st
from torch import nn

# Shares of the groups of a layer: few, most, and all but one now and then.
shares = st.sampled_from([0.0, 0.3, 0.6, 0.9])


def kill_(model, seed, outputs, inputs=0.0, heads=0.0):
    """Zero whole groups of weights, chosen at random, in place; biases and norms get random numbers.

    Args:
        model: The model.
        seed: Of the choice and the numbers.
        outputs: Share of each layer's filters or neurons.
        inputs: Share of each layer's channels or features that are read.
        heads: Share of each attention's heads, by their values or by what reads them.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(count, share):
        return torch.rand(count, generator=generator) < share

    attentions = {
        id(module.out_proj) for module in model.modules() if isinstance(module, nn.MultiheadAttention)
    }
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in attentions:
                module.weight[some(len(module.weight), outputs)] = 0
                module.weight[:, some(module.weight.shape[1], inputs)] = 0
            elif isinstance(module, nn.MultiheadAttention):
                width = module.head_dim
                for head in range(module.num_heads):
                    rows = slice(head * width, (head + 1) * width)
                    if some(1, heads / 2):
                        module.in_proj_weight[2 * module.embed_dim :][rows] = 0
                    if some(1, heads / 2):
                        module.out_proj.weight[:, rows] = 0
            vectors = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
            for name, vector in itertools.chain(*vectors):
                if vector.is_floating_point() and vector.dim() == 1:
                    drawn = torch.randn(vector.shape, generator=generator)
                    vector.copy_(drawn.abs() + 0.5 if name == "running_var" else drawn)
    return model
