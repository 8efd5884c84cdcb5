"""Attention with fewer heads than fit into its width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from inference.shrinking.resize import set_parameter
from inference.tracing.attention import attend


class FewerHeads(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` without some of its heads.

    torch's own module has always as many heads as fill its width. This one has the same parameters by
    the same names, of which those that go by head are smaller, and computes the same without torch's
    fused path for whole encoder layers.

    Attributes:
        original_heads: How many there were.
        heads: Which of them are left.
    """

    original_heads: int
    heads: list[int]

    @override
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what `torch.nn.MultiheadAttention` does, with the same arguments.

        The weights that it returns are those of the heads that are left.

        Raises:
            ValueError: If ``is_causal`` is set without a mask.
        """
        if is_causal and attn_mask is None:
            raise ValueError("is_causal needs attn_mask, as in torch.nn.MultiheadAttention")
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.original_heads))[:, self.heads].flatten(0, 1)
        if query.dim() == 3:
            return attend(
                self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights
            )
        batch = 0 if self.batch_first else 1
        padding = None if key_padding_mask is None else key_padding_mask[None]
        same = query is key and key is value
        query = query.unsqueeze(batch)
        key, value = (query, query) if same else (key.unsqueeze(batch), value.unsqueeze(batch))
        y, weights = attend(
            self, query, key, value, padding, need_weights, attn_mask, average_attn_weights
        )
        return y.squeeze(batch), None if weights is None else weights[0]


def remove_heads_(model: nn.Module, path: str, kept: Tensor) -> None:
    """Take heads that are constant or not read out of an attention module, in place.

    Args:
        model: A model.
        path: Of the module in it, of torch's class or `FewerHeads`.
        kept: Mask over its heads.
    """
    module = model.get_submodule(path)
    assert isinstance(module, nn.MultiheadAttention)
    before = list(range(module.num_heads))
    original, found = getattr(module, "original_heads", len(before)), getattr(module, "heads", before)
    # So that its hooks, and the references to it, stay.
    module.__class__ = FewerHeads
    assert isinstance(module, FewerHeads)
    module.original_heads, module.heads = original, [found[k] for k in before if kept[k]]
    module.num_heads = len(module.heads)
    # What keeps torch's encoder layers, and encoders, from their fused paths.
    module._qkv_same_embed_dim = False
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and module in list(encoder.modules()):
            encoder.use_nested_tensor = False
    rows = kept.repeat_interleave(module.head_dim)
    _fold_values(module, ~rows)
    for name, parameter in list(module.named_parameters(recurse=False)):
        every = rows.repeat(len(parameter) // len(rows)).to(parameter.device)
        set_parameter(module, name, parameter[every], parameter)
    weight = module.out_proj.weight
    set_parameter(module.out_proj, "weight", weight[:, rows.to(weight.device)], weight)
    module.out_proj.in_features = int(rows.sum())


def _fold_values(module: nn.MultiheadAttention, gone: Tensor) -> None:
    """Move the values of constant heads into the output's bias."""
    if module.in_proj_bias is None:
        return
    weight, bias = module.out_proj.weight, module.out_proj.bias
    constants = module.in_proj_bias.detach().chunk(3)[2].double() * gone.to(weight.device)
    added = weight.detach().double() @ constants
    if added.any():
        set_parameter(module.out_proj, "bias", bias.detach().double() + added, bias)


def find_dead_heads(model: nn.Module) -> dict[str, Tensor]:
    """Find heads whose values are constant, or that the output does not read.

    Args:
        model: The model.

    Returns:
        Masks of the heads that stay, at least one, by the path of each attention module that can do
        without some.
    """
    found = {}
    for path, module in model.named_modules():
        if type(module) not in (nn.MultiheadAttention, FewerHeads) or "forward" in vars(module):
            continue
        assert isinstance(module, nn.MultiheadAttention)
        alive = _alive(module)
        if alive is None or alive.all():
            continue
        if not alive.any():
            alive[0] = True
        found[path] = alive
    return found


def _alive(module: nn.MultiheadAttention) -> Tensor | None:
    """Tell which heads of a module do something; None if it cannot do without any."""
    held = {*module._parameters, *(f"out_proj.{name}" for name in module.out_proj._parameters)}
    if module.bias_k is not None or module.add_zero_attn or "out_proj.weight" not in held:
        return None
    if "in_proj_weight" not in held or type(module.out_proj).forward is not nn.Linear.forward:
        return None
    if module.in_proj_weight is not None:
        values = module.in_proj_weight.detach().chunk(3)[2]
    else:
        values = module.v_proj_weight.detach()
    rows = values.unflatten(0, (module.num_heads, -1)).flatten(1)
    columns = module.out_proj.weight.detach().t().unflatten(0, (module.num_heads, -1)).flatten(1)
    return torch.logical_and(rows.any(1), columns.any(1)).cpu()
