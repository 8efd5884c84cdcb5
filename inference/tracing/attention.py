"""Multi-head attention in operators that keep the batch first, for the time of an export.

`torch.nn.MultiheadAttention` computes with tokens first and mixes batch and heads, so its projections
would not come out as layers over a batch.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def batch_first_attention(model: nn.Module) -> Iterator[None]:
    """Let a model's attention modules compute the same, batch first, while the context lasts.

    torch's fused inference path is off meanwhile: it is one operator for a whole encoder layer.

    Args:
        model: Its modules get a forward of their own, and lose it again. Subclasses with another
            forward, and attention with ``bias_kv`` or ``add_zero_attn``, are left as they are.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    changed = [
        module
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
        and type(module).forward is nn.MultiheadAttention.forward
        and "forward" not in vars(module)
        and module.bias_k is None
        and not module.add_zero_attn
    ]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for module in changed:
            module.forward = types.MethodType(_forward, module)  # type: ignore[method-assign]
        yield
    finally:
        for module in changed:
            del module.forward
        torch.backends.mha.set_fastpath_enabled(fast)


def _forward(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Stand in for `torch.nn.MultiheadAttention.forward`, in eval mode."""
    if query.dim() != 3 or (is_causal and attn_mask is None):  # The latter is refused there.
        return nn.MultiheadAttention.forward(
            self,
            query,
            key,
            value,
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )
    return attend(
        self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights
    )


def attend(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None,
    need_weights: bool,
    attn_mask: Tensor | None,
    average_attn_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute attention of as many heads as the projections are wide enough for.

    Args:
        self: Its parameters and options are used.
        query: ``[batch, tokens, width]``, or tokens first; the others too.
        key: As ``query``.
        value: As ``query``.
        key_padding_mask: As of `torch.nn.MultiheadAttention`; the others too.
        need_weights: As there.
        attn_mask: As there.
        average_attn_weights: As there.
    """
    same = query is key and key is value
    if not self.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    q, k, v = (
        x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        for x in _project(self, query, key, value, same)
    )
    mask = _merge_masks(key_padding_mask, attn_mask, q)
    y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
    y = self.out_proj(y.transpose(1, 2).flatten(2))
    if not self.batch_first:
        y = y.transpose(0, 1)
    if not need_weights:
        return y, None
    # A second time, unless nobody reads them: then capture drops them.
    scores = (q * math.sqrt(1 / self.head_dim)) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    return y, weights.mean(1) if average_attn_weights else weights


def _project(
    self: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, same: bool
) -> tuple[Tensor, ...]:
    """Compute the queries, keys and values of all heads, each ``[batch, tokens, width]``."""
    if same and self.in_proj_weight is not None:
        return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
    if self.in_proj_weight is not None:
        weights = self.in_proj_weight.chunk(3)
    else:
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
    biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    return tuple(
        F.linear(x, weight, bias)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )


def _merge_masks(padding: Tensor | None, mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Add up both masks: 0 where attention may go, -inf where not; None if it may go everywhere."""
    total = None
    if mask is not None:
        heads = mask if mask.dim() == 2 else mask.unflatten(0, (-1, q.shape[1]))
        total = _as_float(heads, q)
    if padding is not None:
        total = _as_float(padding[:, None, None], q) + (0 if total is None else total)
    return total


def _as_float(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
