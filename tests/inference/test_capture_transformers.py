"""Models of the transformers library: attention in other words, matrices over joined tokens."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import transformers
from torch import nn

from inference.capture import capture
from inference.graph import Conv2d, Linear
from inference.interpret import run

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


class Takes(nn.Module):
    """Takes one tensor out of what a model of the library returns."""

    def __init__(self, model, output):
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, x):
        return getattr(self.model(x), self.output)


def bert():
    config = transformers.BertConfig(**SMALL, vocab_size=50, max_position_embeddings=16)
    return Takes(transformers.BertModel(config), "last_hidden_state")


def gpt2():
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Takes(transformers.GPT2Model(config), "last_hidden_state")


def mobilenet():
    config = transformers.MobileNetV2Config(depth_multiplier=0.25, image_size=32, num_labels=5)
    return Takes(transformers.MobileNetV2ForImageClassification(config), "logits")


def tokens(batch, generator):
    return torch.randint(0, 50, (batch, 7), generator=generator)


def images(batch, generator):
    return torch.randn(batch, 3, 32, 32, generator=generator)


@pytest.mark.parametrize(
    ("build", "draw", "layers"),
    [
        (bert, tokens, {Linear: 12, Conv2d: 0}),
        (gpt2, tokens, {Linear: 8, Conv2d: 0}),
        (mobilenet, images, {Linear: 1, Conv2d: 52}),
    ],
)
def test_all_weights_become_layers(build, draw, layers):
    torch.manual_seed(0)
    model = build().eval()
    generator = torch.Generator().manual_seed(0)
    graph = capture(model, draw(1, generator))
    kinds = Counter(type(node) for node in graph.nodes)
    # BERT's pooler is not read, and so not there.
    assert {kind: kinds[kind] for kind in layers} == layers
    model.double()
    for batch in (1, 3):
        x = draw(batch, generator)
        with torch.no_grad():
            truth = model(x.double() if x.is_floating_point() else x)
        (y,) = run(graph, [x])
        assert (y - truth).norm() <= 1e-5 * truth.norm()
