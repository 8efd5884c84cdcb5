"""The character transformer looks back only, and a run's branch goes on as the run does."""

from __future__ import annotations

from copy import deepcopy

import torch

from benchmarks.small_nets import NETS
from benchmarks.text import CONTEXT, char_transformer, load_text
from benchmarks.training_runs import evaluate


def test_a_character_does_not_see_what_follows_it() -> None:
    model = char_transformer(symbols=50, seed=0)
    tokens = torch.randint(50, (2, CONTEXT), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 40:] = (other[:, 40:] + 1) % 50
    first, second = model(tokens), model(other)
    assert first.shape == (2, 50, CONTEXT)
    torch.testing.assert_close(first[..., :40], second[..., :40])
    assert not torch.allclose(first[..., 40:], second[..., 40:])


def test_targets_are_the_inputs_one_character_on() -> None:
    data, symbols = load_text()
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.inputs.flatten()[1:], split.targets.flatten()[:-1])
        assert int(split.targets.max()) < symbols
    assert len(data.train) > 7 * len(data.test)


def test_a_branch_of_a_run_trains_as_the_run_does() -> None:
    net = NETS["transformer"]
    data, _ = load_text()
    made = net.run("sgd", depth=3, penalty=1e-4, seed=0)
    made.train(data.train, 3)
    branch = deepcopy(made)
    branch.train(data.train, 6)
    made.train(data.train, 6)
    for p, q in zip(made.model.parameters(), branch.model.parameters(), strict=True):
        assert p is not q
        assert torch.equal(p, q)


def test_guessing_evenly_costs_the_logarithm_of_the_number_of_symbols() -> None:
    data, symbols = load_text()
    model = char_transformer(symbols, seed=0)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    bits = evaluate(model, data.test)["bits"]
    assert abs(bits - torch.tensor(float(symbols)).log2().item()) < 1e-4
