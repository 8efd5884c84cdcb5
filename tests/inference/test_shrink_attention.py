"""Attention with fewer heads computes what torch's does with dead ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import inference
from inference.shrinking.attention import FewerHeads

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def attention(heads=4, gone=(1,), constant=(2,), **options):
    """Make attention in which some heads are not read and some are constant."""
    torch.manual_seed(0)
    made = nn.MultiheadAttention(16, heads, **options).double()
    width = 16 // heads
    with torch.no_grad():
        if made.in_proj_bias is not None:
            nn.init.normal_(made.in_proj_bias)
            nn.init.normal_(made.out_proj.bias)
        same = made.in_proj_weight is not None
        values = made.in_proj_weight[32:] if same else made.v_proj_weight
        for head in gone:
            made.out_proj.weight[:, head * width : (head + 1) * width] = 0
        for head in constant:
            values[head * width : (head + 1) * width] = 0
    return made


class Attends(nn.Module):
    """Calls attention in one of its ways."""

    def __init__(self, attention, **options):
        super().__init__()
        self.attention, self.options = attention, options

    def forward(self, query, memory):
        if not self.attention.batch_first:
            query, memory = query.transpose(0, 1), memory.transpose(0, 1)
        y, _ = self.attention(query, memory, memory, **self.options)
        return y if self.attention.batch_first else y.transpose(0, 1)


def inputs(batch=3, width=16):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, tokens, size, generator=generator, dtype=torch.float64)
        for tokens, size in ((5, 16), (6, width))
    ]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("other", [None, 10])
@pytest.mark.parametrize("need_weights", [True, False])
def test_heads_go(batch_first, bias, other, need_weights):
    options = {"batch_first": batch_first, "bias": bias, "kdim": other, "vdim": other}
    model = Attends(attention(**options), need_weights=need_weights)
    xs = inputs(width=other or 16)
    small, report = inference.shrink_with_report(model, xs)
    assert isinstance(small.attention, FewerHeads)
    assert small.attention.heads == [0, 3]
    assert small.attention.out_proj.weight.shape == (16, 8)
    assert not report.stuck
    torch.testing.assert_close(small(*xs), model(*xs), **EXACT)
    # In train mode, too: there is no dropout here.
    torch.testing.assert_close(small.train()(*xs), model.train()(*xs), **EXACT)
    # Heads that die later go, too.
    with torch.no_grad():
        small.attention.out_proj.weight[:, :4] = 0
    again = inference.shrink(small, xs)
    assert again.attention.heads == [3]
    torch.testing.assert_close(again(*xs), small(*xs), **EXACT)


@pytest.mark.parametrize("kind", [torch.bool, torch.float64])
@pytest.mark.parametrize("by_head", [False, True])
def test_masks(kind, by_head):
    generator = torch.Generator().manual_seed(1)
    shape = (3 * 4, 5, 6) if by_head else (5, 6)
    mask = torch.randn(shape, generator=generator) > 0.5
    mask[..., 0] = False
    padding = torch.zeros(3, 6).bool()
    padding[1, 4:] = True
    made = attention(batch_first=True)
    model, xs = Attends(made), inputs()
    small = inference.shrink(model, xs)
    wide = [m if kind == torch.bool else torch.zeros(m.shape).double().masked_fill(m, -torch.inf)
            for m in (mask, padding)]  # fmt: skip
    for masks in itertools.product((None, wide[0]), (None, wide[1])):
        query, memory = xs
        found, truth = (
            m.attention(query, memory, memory, attn_mask=masks[0], key_padding_mask=masks[1])[0]
            for m in (small, model)
        )
        torch.testing.assert_close(found, truth, **EXACT)


def test_without_a_batch():
    model, (query, memory) = Attends(attention(batch_first=True)), inputs()
    small = inference.shrink(model, (query, memory))
    truth, _ = model.attention(query[0], memory[0], memory[0])
    found, weights = small.attention(query[0], memory[0], memory[0])
    torch.testing.assert_close(found, truth, **EXACT)
    assert weights.shape == (5, 6)
    _, weights = small.attention(query[0], memory[0], memory[0], need_weights=False)
    assert weights is None
    with pytest.raises(ValueError, match="is_causal needs attn_mask"):
        small.attention(query, memory, memory, is_causal=True)


def test_weights_that_are_read_keep_all_heads():
    class Reads(Attends):
        def forward(self, query, memory):
            return self.attention(query, memory, memory)

    model, xs = Reads(attention(batch_first=True)), inputs()
    small, report = inference.shrink_with_report(model, xs)
    assert type(small.attention) is nn.MultiheadAttention
    (stuck,) = report.stuck
    assert (stuck.name, stuck.what, stuck.count) == ("attention", "heads", 2)
    assert "outputs would differ" in stuck.reason


def test_one_head_stays():
    model, xs = Attends(attention(gone=range(4), constant=(), batch_first=True)), inputs()
    small = inference.shrink(model, xs)
    assert small.attention.heads == [0]
    torch.testing.assert_close(small(*xs), model(*xs), **EXACT)


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_attention_to_more_than_the_inputs_keeps_its_heads(options):
    model, xs = Attends(attention(batch_first=True, **options)), inputs()
    assert type(inference.shrink(model, xs).attention) is nn.MultiheadAttention


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoders_leave_their_fused_paths(norm_first):
    """In eval mode without gradients torch would take its own way, past the smaller module."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    for each in model.layers:
        each.self_attn = attention(batch_first=True)
        with torch.no_grad():
            each.linear1.weight[::2] = 0
    model.double().eval()
    (x, _) = inputs()
    small = inference.shrink(model, x)
    assert all(type(each.self_attn) is FewerHeads for each in small.layers)
    assert all(each.linear1.out_features == 12 for each in small.layers)
    padding = torch.zeros(3, 5).bool()
    padding[1, 3:] = True
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), **EXACT)
        found, truth = (m(x, src_key_padding_mask=padding) for m in (small, model))
    # torch's nested tensors have zeros where it is padded.
    torch.testing.assert_close(found[~padding], truth[~padding], **EXACT)
