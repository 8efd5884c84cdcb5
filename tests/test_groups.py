"""Which parameters of a model are factorized."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dwf_optim import DWFOptimizer, param_groups
from tests.helpers import seeded


class LanguageModel(nn.Module):
    """One of everything; its head is tied to its embedding."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
        self.layer_norm = nn.LayerNorm(8)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.gain = nn.Parameter(torch.ones(8, 1))
        self.head = nn.Linear(8, 11)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(self.embedding(tokens).mT)).mT
        x = self.rnn(self.layer_norm(self.attention(x, x, x)[0]))[0]
        return self.head(x * self.gain[:, 0])


USUAL = {
    "conv.weight",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "rnn.weight_ih_l0",
    "rnn.weight_hh_l0",
}


def split(model: nn.Module, **options: object) -> tuple[set[str], set[str]]:
    """Names of the factorized and of the dense, as the optimizer sees them."""
    optimizer = DWFOptimizer(param_groups(model, penalty=1e-3, **options), lr=0.05)
    names = {p: name for name, p in model.named_parameters()}
    factorized = {names[p] for p in optimizer.factorized()}
    every = [names[p] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(names.values())  # all of them, each once
    return factorized, set(every) - factorized


def test_by_module_type() -> None:
    factorized, dense = split(LanguageModel())
    assert factorized == USUAL
    assert {"embedding.weight", "gain", "conv.bias", "norm.weight", "attention.bias_k"} < dense


def test_a_head_of_its_own_is_factorized() -> None:
    assert split(LanguageModel(tied=False))[0] == USUAL | {"head.weight"}


@pytest.mark.parametrize(
    ("options", "more", "less"),
    [
        ({"include": [nn.Embedding]}, {"embedding.weight"}, set()),
        ({"include": ["embedding.weight"]}, {"embedding.weight"}, set()),
        ({"include": ["gain", "conv.bias"]}, {"gain", "conv.bias"}, set()),
        ({"exclude": [nn.Conv1d]}, set(), {"conv.weight"}),
        ({"exclude": ["rnn.weight_hh_l0"]}, set(), {"rnn.weight_hh_l0"}),
        (
            {"include": ["conv.weight"], "exclude": [nn.Conv1d, nn.RNNBase]},
            set(),
            {"conv.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"},
        ),
    ],
)
def test_include_and_exclude(options: dict[str, object], more: set[str], less: set[str]) -> None:
    assert split(LanguageModel(), **options)[0] == (USUAL | more) - less


def test_options_are_the_factorized_groups() -> None:
    groups = param_groups(LanguageModel(), penalty=0.02, depth=4, init="varmatch", lr_scale=2.0)
    optimizer = DWFOptimizer(groups, lr=0.05, penalty=0.7)
    sparse, dense = optimizer.param_groups
    assert (sparse["depth"], sparse["penalty"], sparse["init"]) == (4, 0.02, "varmatch")
    assert (dense["depth"], dense["penalty"]) == (1, 0.0)


def test_dense_parameters_step_as_the_base_would() -> None:
    model, twin = LanguageModel().eval(), LanguageModel().eval()
    twin.load_state_dict(model.state_dict())
    tokens = torch.randint(0, 11, (2, 5), generator=seeded(0))
    optimizer = DWFOptimizer(param_groups(model, penalty=1e-3), lr=0.05)
    reference = torch.optim.SGD(twin.parameters(), lr=0.05)
    for each, engine in ((model, optimizer), (twin, reference)):
        each(tokens).logsumexp(-1).sum().backward()
        engine.step()
    twins = dict(twin.named_parameters())
    for name, p in model.named_parameters():
        assert torch.equal(p, twins[name]) == (name not in USUAL), name


def test_models_without_one_of_the_two_groups() -> None:
    assert len(param_groups(nn.Linear(2, 2, bias=False), penalty=0.1)) == 1
    assert len(param_groups(nn.LayerNorm(2), penalty=0.1)) == 1
