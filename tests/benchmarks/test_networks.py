"""The zoo: the networks of the papers, pruned to the share asked for."""

from __future__ import annotations

import pytest
import torch

from benchmarks.networks import NETWORKS, prune_


@pytest.mark.parametrize(
    ("name", "parameters"),
    # As the pruning papers count the LeNets, and github.com/kuangliu/pytorch-cifar the others.
    [
        ("lenet_300_100", 266_610),
        ("lenet_5", 431_080),
        ("vgg_16", 14_728_266),
        ("resnet_18", 11_173_962),
    ],
)
def test_sizes_are_the_published_ones(name, parameters):
    assert sum(p.numel() for p in NETWORKS[name].build(0).parameters()) == parameters


@pytest.mark.parametrize("name", ["lenet_5", "mobilenet", "densenet", "transformer_encoder"])
def test_pruned_networks_still_tell_inputs_apart(name):
    build, shape = NETWORKS[name]
    model = build(0)
    before = {key: value.clone() for key, value in model.named_parameters()}
    prune_(model, 0.9, seed=0)
    changed = [(p, before[key]) for key, p in model.named_parameters() if not p.equal(before[key])]
    zeros = sum(int((p == 0).sum()) for p, _ in changed)
    assert zeros == round(0.9 * sum(p.numel() for p, _ in changed))
    for p, was in changed:
        torch.testing.assert_close(p.norm(), was.norm())
        kept = p != 0
        assert was[kept].abs().min() >= was[~kept].abs().max()
    with torch.no_grad():
        first, second = model(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert (first - second).norm() > 1e-2 * first.norm()


def test_seed_settles_ties_and_weights():
    model = torch.nn.Linear(10, 10)
    torch.nn.init.ones_(model.weight)
    first = prune_(model, 0.5, seed=1).weight.detach() != 0
    assert first.sum() == 50
    torch.nn.init.ones_(model.weight)
    assert not torch.equal(first, prune_(model, 0.5, seed=2).weight != 0)
    build, _ = NETWORKS["preact_resnet"]
    for one, same in zip(build(3).state_dict().values(), build(3).state_dict().values(), strict=True):
        assert torch.equal(one, same)


def test_sparsity_out_of_range():
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\), got 1.0"):
        prune_(torch.nn.Linear(2, 2), 1.0)
