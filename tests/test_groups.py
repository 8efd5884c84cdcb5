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


def penalties(model: nn.Module, depth: int = 3, **options: object) -> dict[str, float]:
    """Penalty of every factorized parameter, as the optimizer sees it."""
    optimizer = DWFOptimizer(param_groups(model, penalty=1e-3, depth=depth, **options), lr=0.05)
    names = {p: name for name, p in model.named_parameters()}
    factorized = set(optimizer.factorized())
    return {
        names[p]: group["penalty"]
        for group in optimizer.param_groups
        for p in group["params"]
        if p in factorized
    }


def sized(*sizes: float) -> nn.Sequential:
    """Layers of different fan-in whose weights have these root mean squares, exactly."""
    model = nn.Sequential(nn.Linear(64, 8), nn.Conv2d(4, 16, 3), nn.Linear(16, 16))
    for layer, size in zip((model[0], model[1], model[2]), sizes, strict=True):
        with torch.no_grad():
            layer.weight.copy_(
                size * (1 - 2 * torch.rand(layer.weight.shape, generator=seeded(1)).round())
            )
    return model


FAN_INS = (64, 36, 16)
COUNTS = (512, 576, 256)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("scaling", ["equal", "fan_in", "sigma"])
def test_scaled_penalties_are_alike_in_units_of_each_layers_size(scaling: str, depth: int) -> None:
    sizes = {
        "equal": (1.0, 1.0, 1.0),
        "fan_in": tuple(n**-0.5 for n in FAN_INS),
        "sigma": (0.3, 0.02, 0.1),
    }[scaling]
    groups = param_groups(sized(0.3, 0.02, 0.1), penalty=1e-3, depth=depth, penalty_scaling=scaling)
    found = {name: group["penalty"] for group in groups[:-1] for name, _ in group["params"]}
    in_units = [own * size ** (2 / depth) for own, size in zip(found.values(), sizes, strict=True)]
    # Float32 weights give sigma to a few eps, here to the power of 2 at most.
    assert in_units == pytest.approx([in_units[0]] * 3, rel=1e-5)
    mean = sum(n * own for n, own in zip(COUNTS, found.values(), strict=True)) / sum(COUNTS)
    assert mean == pytest.approx(1e-3, rel=1e-12)
    assert len(groups) == (2 if scaling == "equal" else 4)


def test_both_scalings_agree_where_the_init_is_by_fan_in() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 100), nn.Conv2d(20, 50, 5), nn.Linear(100, 50))
    by_fan_in, by_sigma = (penalties(model, penalty_scaling=name) for name in ("fan_in", "sigma"))
    # The mean square of n uniform draws has a relative deviation of sqrt(0.8 / n), n >= 5000: five of
    # them, to the power of 1/3.
    assert by_sigma == pytest.approx(by_fan_in, rel=5 * (0.8 / 5000) ** 0.5 / 3)


def test_per_layer_groups() -> None:
    groups = param_groups(LanguageModel(), penalty=1e-3, per_layer=True)
    assert [[name for name, _ in group["params"]] for group in groups[:-1]] == [
        [name] for name, _ in LanguageModel().named_parameters() if name in USUAL
    ]
    assert {group["penalty"] for group in groups[:-1]} == {1e-3}


def test_scalings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"unknown penalty_scaling 'depth'.*'fan_in', 'sigma'"):
        param_groups(LanguageModel(), penalty=1e-3, penalty_scaling="depth")
    model = sized(0.3, 0.0, 0.1)
    with pytest.raises(ValueError, match=r"size of 1\.weight, which is 0\.0: .*'fan_in', or exclude"):
        param_groups(model, penalty=1e-3, penalty_scaling="sigma")
    assert set(penalties(model, penalty_scaling="sigma", exclude=["1.weight"])) == {
        "0.weight",
        "2.weight",
    }
