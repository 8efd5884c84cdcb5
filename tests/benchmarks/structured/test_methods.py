"""Each method does what its paper says, on networks small enough to compute by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.structured.method import Method, Settings
from benchmarks.structured.methods import METHODS
from benchmarks.structured.methods.dwf import DWF3
from benchmarks.structured.methods.group_lasso import GroupLasso, group_lasso_gradient
from benchmarks.structured.methods.l1_filters import L1Filters
from benchmarks.structured.methods.slimming import NetworkSlimming
from benchmarks.structured.units import Group, Units, behind_norm, norms, zero_, zero_smallest_
from tests.helpers import seeded

CONVOLUTIONS = [behind_norm("0", "1", "3")]


def convolutions() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten()
        )


def settings(strength: float = 0.01) -> Settings:
    return Settings(lr=0.1, momentum=0.0, strength=strength, seed=0)


def weights_after_a_step(method: Method, model: nn.Module) -> dict[str, Tensor]:
    optimizer = method.optimizer(model)
    inputs = torch.randn(8, 1, 5, 5, generator=seeded(1))
    F.cross_entropy(model(inputs), torch.arange(8) % 2).backward()
    optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


# ------------------------------------------------------------------------------- units


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_norms_of_groups_are_those_of_their_slices(order: float) -> None:
    model = convolutions()
    weight = model[3].weight
    for structure, slices in (("filter", weight), ("input", weight.transpose(0, 1))):
        expected = torch.stack([part.flatten().norm(order) for part in slices])
        torch.testing.assert_close(norms(model, Group("3.weight", structure), order), expected)


def test_heads_are_blocks_of_queries_keys_and_values() -> None:
    model = nn.MultiheadAttention(8, 2)
    group = Group("in_proj_weight", ("qkv_head", 2))
    blocks = model.in_proj_weight.view(3, 2, 4, 8)
    torch.testing.assert_close(norms(model, group), torch.stack([blocks[:, h].norm() for h in (0, 1)]))
    zero_(model, group, torch.tensor([True, False]))
    assert not blocks[:, 0].any()
    assert blocks[:, 1].all()


def test_the_lowest_over_all_layers_go_and_one_of_each_stays() -> None:
    model = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 2))
    groups = [Group("0.weight", "neuron"), Group("1.weight", "neuron")]
    scores = [torch.tensor([0.1, 0.4, 0.2, 0.3]), torch.tensor([0.02, 0.01])]
    zero_smallest_(model, groups, scores, 0.5)
    # 0.01, 0.1 and 0.2 of six; 0.02 is its layer's last.
    assert norms(model, groups[0]).bool().tolist() == [False, True, False, True]
    assert norms(model, groups[1]).bool().tolist() == [True, False]
    zero_smallest_(model, groups, scores, 1.0)
    assert [int(norms(model, group).count_nonzero()) for group in groups] == [1, 1]


# ----------------------------------------------------------------------------- methods


@pytest.mark.parametrize("structure", ["filter", "input", (0, 2)])
def test_the_lasso_gradient_is_that_of_autograd(structure) -> None:
    weight = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    dims = {"filter": (1, 2, 3), "input": (0, 2, 3), (0, 2): (1, 3)}[structure]
    (0.3 * weight.square().sum(dims).sqrt().sum()).backward()
    ours = group_lasso_gradient(weight, Group("", structure), 0.3)
    torch.testing.assert_close(ours, weight.grad, rtol=1e-13, atol=1e-14)


def test_the_lasso_leaves_zero_groups_alone() -> None:
    weight = torch.ones(2, 3)
    weight[0] = 0
    gradient = group_lasso_gradient(weight, Group("", "neuron"), 0.3)
    assert not gradient[0].any()
    torch.testing.assert_close(gradient[1], torch.full((3,), 0.3 / 3**0.5))


def test_a_lasso_step_is_one_on_the_penalized_loss() -> None:
    with_penalty = weights_after_a_step(GroupLasso(CONVOLUTIONS, settings()), convolutions())
    without = weights_after_a_step(Method(CONVOLUTIONS, settings()), convolutions())
    start = convolutions()[3].weight.detach()
    expected = 0.1 * 0.01 * start / start.square().sum((0, 2, 3), keepdim=True).sqrt()
    moved = without.pop("3.weight") - with_penalty.pop("3.weight")
    # Differences of weights of size 0.3 in float32.
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-7)
    for name, value in without.items():
        assert torch.equal(value, with_penalty[name]), name


def test_slimming_penalizes_scales_of_batch_norms_only() -> None:
    with_penalty = weights_after_a_step(NetworkSlimming(CONVOLUTIONS, settings()), convolutions())
    without = weights_after_a_step(Method(CONVOLUTIONS, settings()), convolutions())
    # Scales start at 1, and so have the sign 1; values near 1 in float32.
    moved = without.pop("1.weight") - with_penalty.pop("1.weight")
    torch.testing.assert_close(moved, torch.full((4,), 0.1 * 0.01), rtol=0, atol=2.4e-7)
    for name, value in without.items():
        assert torch.equal(value, with_penalty[name]), name


def test_slimming_removes_channels_of_the_smallest_scales() -> None:
    model = convolutions()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.3, -0.1, 0.2, -0.4]))
    method = NetworkSlimming(CONVOLUTIONS, settings())
    zero_smallest_(model, method.groups(), method.scores(model), 0.5)
    assert model[1].weight.bool().tolist() == [True, False, False, True]


def test_slimming_needs_batch_norms() -> None:
    assert NetworkSlimming.lacks([Units(Group("0.weight", "filter"))]) == "no BatchNorm"
    assert NetworkSlimming.lacks(CONVOLUTIONS) is None


def test_the_l1_method_removes_filters_of_the_smallest_sums() -> None:
    model = convolutions()
    with torch.no_grad():
        # By the L2 norm the order would be 1, 2, 3, 0.
        model[0].weight.zero_()
        model[0].weight[0, 0, 0, 0] = 4.0
        model[0].weight[1] = 0.5  # 4.5 in sum, 1.5 in norm
        model[0].weight[2, 0, 0] = 1.0  # 3 and 1.7
        model[0].weight[3, 0, 0, :2] = 2.5  # 5 and 3.5
    method = L1Filters(CONVOLUTIONS, settings())
    zero_smallest_(model, method.groups(), method.scores(model), 0.5)
    assert norms(model, Group("0.weight", "filter")).bool().tolist() == [False, True, False, True]


def test_the_l1_method_takes_the_same_share_of_each_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 4))
    with torch.no_grad():
        model[1].weight *= 1e-3
    units = [Units(Group("0.weight", "neuron")), Units(Group("1.weight", "neuron"))]
    method = L1Filters(units, settings())
    zero_smallest_(model, method.groups(), method.scores(model), 0.5)
    assert [int(norms(model, unit.gated).count_nonzero()) for unit in units] == [4, 2]


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith("dwf")])
def test_dwf_gates_the_units_and_nothing_else(name: str) -> None:
    model = convolutions()
    optimizer = METHODS[name](CONVOLUTIONS, settings()).optimizer(model)
    assert [p is model[3].weight for p in optimizer.factorized()] == [True]  # type: ignore[attr-defined]
    omega, *gates = optimizer.factors(model[3].weight)  # type: ignore[attr-defined]
    assert omega.shape == model[3].weight.shape
    assert {tuple(gate.shape) for gate in gates} == {(1, 4, 1, 1)}


def test_what_has_no_gates_takes_the_step_of_dense_training() -> None:
    factorized = weights_after_a_step(DWF3(CONVOLUTIONS, settings(0.0)), convolutions())
    dense = weights_after_a_step(Method(CONVOLUTIONS, settings(0.0)), convolutions())
    for name in set(dense) - {"3.weight"}:
        assert torch.equal(dense[name], factorized[name]), name


def test_a_filter_in_front_of_a_batch_norm_has_no_gradient_along_itself() -> None:
    # So its gates would have none but the penalty's, and what reads its channel is gated instead.
    model = convolutions().double()
    model[1].eps = 1e-12
    inputs = torch.randn(8, 1, 5, 5, dtype=torch.float64, generator=seeded(1))
    F.cross_entropy(model(inputs), torch.arange(8) % 2).backward()
    made, read = model[0].weight, model[3].weight
    cosines = F.cosine_similarity(made.flatten(1), made.grad.flatten(1))
    # Up to eps over the variance of a channel.
    assert float(cosines.detach().abs().max()) < 1e-9
    by_input = (x.transpose(0, 1).flatten(1) for x in (read, read.grad))
    assert float(F.cosine_similarity(*by_input).detach().abs().min()) > 1e-3
