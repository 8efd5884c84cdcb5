"""Each method does what its paper says, on networks small enough to compute by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.frontier.masks import keep_largest, prunable
from benchmarks.frontier.method import Method, Settings
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.methods.gmp import BEGIN, END, GradualMagnitude, cubic
from benchmarks.frontier.methods.l1 import L1
from benchmarks.frontier.methods.magnitude import Magnitude
from benchmarks.frontier.methods.pwd import PWD1, decayed
from benchmarks.frontier.methods.random import RandomPruning
from benchmarks.frontier.methods.snip import SNIP, sensitivities
from benchmarks.frontier.methods.synflow import flow, synflow_masks
from benchmarks.models import LENET_300_100, mlp
from tests.helpers import seeded


def settings(**other: Any) -> Settings:
    usual = {"lr": 0.1, "momentum": 0.0, "strength": 0.01, "sparsity": 0.5, "steps": 100, "seed": 0}
    return Settings(**{**usual, **other})


def batch(features: int = 6) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(32, features, generator=seeded(1))
    return inputs, inputs[:, :3].argmax(1)


def step(method: Method, number: int = 1) -> None:
    inputs, targets = batch()
    method.optimizer.zero_grad()
    F.cross_entropy(method.model(inputs), targets).backward()
    method.before_step()
    method.optimizer.step()
    method.after_step(number)


def zeros(model: nn.Module) -> int:
    return sum(int((p == 0).sum()) for p in prunable(model).values())


# -------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.99])
def test_the_largest_scores_stay_to_one_weight(sparsity: float) -> None:
    scores = {name: torch.rand(10, 10, generator=seeded(i)) for i, name in enumerate("ab")}
    masks = keep_largest(scores, sparsity)
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    values = torch.cat([score.flatten() for score in scores.values()])
    assert int((~kept).sum()) == round(200 * sparsity)
    if sparsity > 0:
        assert values[~kept].max() <= values[kept].min()
    equal = keep_largest({"a": torch.ones(4, 5)}, 0.35)["a"]
    assert int(equal.sum()) == 13  # ties too


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.55, 0.9])
def test_of_equal_scores_the_first_go(sparsity: float) -> None:
    scores = {name: torch.randint(4, (7, 9), generator=seeded(i)).float() for i, name in enumerate("ab")}
    flat = torch.cat([score.flatten() for score in scores.values()]).tolist()
    first = sorted(range(len(flat)), key=lambda place: (flat[place], place))[: round(sparsity * 126)]
    kept = torch.cat([mask.flatten() for mask in keep_largest(scores, sparsity).values()])
    assert (~kept).nonzero().flatten().tolist() == sorted(first)


# ------------------------------------------------------------------------------ SNIP, SynFlow


def test_snip_is_a_hand_computation() -> None:
    """Of y = v (w1 x1 + w2 x2) with squared error: the derivatives are written out."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    w1, w2, v = 0.5, -2.0, 3.0
    x1, x2, target = 1.0, 0.25, 1.0
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[w1, w2]]))
        model[1].weight.fill_(v)
    slope = 2 * (v * (w1 * x1 + w2 * x2) - target)
    found = sensitivities(model, torch.tensor([[x1, x2]]), torch.tensor([[target]]), F.mse_loss)
    expected = torch.tensor([[abs(slope * v * x1 * w1), abs(slope * v * x2 * w2)]])
    torch.testing.assert_close(found["0.weight"], expected)
    assert found["1.weight"].item() == pytest.approx(abs(slope * (w1 * x1 + w2 * x2) * v))
    method = SNIP(model, settings(sparsity=1 / 3))
    method.before(iter([(torch.tensor([[x1, x2]]), torch.tensor([[target]]))]), F.mse_loss)
    # |slope| is 2; the sensitivities are 3, 3 and 0.
    assert slope == -2
    assert model[1].weight.item() == 0
    assert torch.equal(model[0].weight, torch.tensor([[w1, w2]]))


def test_synaptic_flow_is_a_sum_over_paths_and_is_conserved() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    first, second = (p.detach().double().abs() for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    scores = flow(model, torch.Size([4]), {})
    torch.testing.assert_close(scores["0.weight"], first * second.sum(0)[:, None])
    torch.testing.assert_close(scores["2.weight"], second * first.sum(1)[None])
    assert scores["0.weight"].sum().item() == pytest.approx(scores["2.weight"].sum().item())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_synflow_does_not_collapse_a_layer_at_1000_and_magnitude_does() -> None:
    model = mlp(LENET_300_100, seed=0)
    masks = synflow_masks(model, torch.Size([784]), 1 - 1 / 1000, 100)
    left = {name: int(mask.sum()) for name, mask in masks.items()}
    assert sum(left.values()) == 266_200 - round(0.999 * 266_200)
    assert min(left.values()) > 0
    # Every weight that stays lies on a path from input to output.
    alive = masks["0.weight"].any(1)
    for name in ("2.weight", "4.weight"):
        assert not masks[name][:, ~alive].any()
        alive = masks[name].any(1)
    sizes = {name: p.detach().abs() for name, p in prunable(model).items()}
    assert min(int(mask.sum()) for mask in keep_largest(sizes, 0.999).values()) == 0


# --------------------------------------------------------------------------------------- decay


def test_pwd_with_p_2_is_decoupled_l2() -> None:
    model, twin = mlp((6, 8, 3), 0), mlp((6, 8, 3), 0)

    class PWD2(PWD1):
        p = 2.0

    method = PWD2(model, settings(lr=0.1, strength=0.3, momentum=0.9))
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    inputs, targets = batch()
    for number in range(1, 21):
        step(method, number)
        plain.zero_grad()
        F.cross_entropy(twin(inputs), targets).backward()
        plain.step()
        with torch.no_grad():
            for p in twin.parameters():
                if p.ndim == 2:
                    p.div_(1 + 0.1 * 0.3)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("p", [1.0, 2 / 3, 0.5])
def test_pwd_rests_where_the_penalized_loss_does(p: float) -> None:
    """Of (w - 1)^2 / 2 + a |w|^p / p: the minimum near 1 solves w - 1 + a w^(p-1) = 0."""
    strength, lr = 0.05, 0.1
    weight = torch.ones(1, dtype=torch.float64)
    for _ in range(2000):
        weight = decayed(weight - lr * (weight - 1), weight.abs(), lr * strength, p)
    assert weight.item() > 0.9
    assert weight.item() - 1 + strength * weight.item() ** (p - 1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("p", [1.0, 2 / 3, 0.5])
def test_pwd_takes_what_no_gradient_holds_to_zero_and_keeps_zeros(p: float) -> None:
    weight = torch.tensor([1e-3, -1e-3, 0.0])
    for _ in range(1000):
        weight = decayed(weight, weight.abs(), 1e-2, p)
    assert weight.abs().max() < 1e-7
    assert weight[2] == 0


def test_l1_adds_the_subgradient_until_the_cut() -> None:
    model, twin = mlp((6, 8, 3), 0), mlp((6, 8, 3), 0)
    method = L1(model, settings(strength=0.05))
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    inputs, targets = batch()
    for number in range(1, 6):
        step(method, number)
        plain.zero_grad()
        penalty = sum(p.abs().sum() for p in twin.parameters() if p.ndim == 2)
        (F.cross_entropy(twin(inputs), targets) + 0.05 * penalty).backward()
        plain.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    method.cut(0.5)
    inputs, targets = batch()
    method.optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    gradient = model[0].weight.grad.clone()
    method.before_step()
    assert torch.equal(model[0].weight.grad, gradient)


# ----------------------------------------------------------------------------------- schedules


def test_the_cubic_schedule() -> None:
    assert cubic(0.0, 0.8) == 0
    assert cubic(1.0, 0.8) == 0.8
    assert cubic(0.5, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert cubic(2.0, 0.8) == 0.8


@pytest.mark.parametrize("steps", [50, 333])
def test_gradual_pruning_follows_it_and_ends_exactly(steps: int) -> None:
    model = mlp((6, 8, 3), 0)
    method = GradualMagnitude(model, settings(sparsity=0.75, steps=steps))
    seen = []
    for number in range(1, steps + 1):
        step(method, number)
        seen.append(zeros(model))
    assert seen == sorted(seen)
    assert set(seen[: math.ceil(BEGIN * steps) - 1]) == {0}
    assert set(seen[round(END * steps) - 1 :]) == {54}
    middle = round((BEGIN + END) / 2 * steps)
    # Between the schedule one update ago and now, give or take half a weight.
    least, most = (
        72 * cubic((at / steps - BEGIN) / (END - BEGIN), 0.75)
        for at in (middle - steps / 100 - 2, middle)
    )
    assert least - 0.5 <= seen[middle - 1] <= most + 0.5


# -------------------------------------------------------------------------------------- others


def test_random_pruning_favours_no_layer_and_follows_its_seed() -> None:
    def masks(seed: int) -> dict[str, Tensor]:
        method = RandomPruning(mlp((100, 50, 20), 0), settings(sparsity=0.9, seed=seed))
        method.before(iter(()), F.cross_entropy)
        return method.masks

    first = masks(0)
    assert sum(int(mask.sum()) for mask in first.values()) == 600
    # Hypergeometric: less spread than a binomial's; five standard deviations.
    assert abs(int(first["2.weight"].sum()) - 100) < 5 * (1000 * 0.1 * 0.9) ** 0.5
    assert all(torch.equal(mask, first[name]) for name, mask in masks(0).items())
    assert not torch.equal(masks(1)["0.weight"], first["0.weight"])


def test_one_shot_magnitude_keeps_the_largest_of_all_layers() -> None:
    model = mlp((6, 8, 3), 0)
    before = torch.cat([p.detach().abs().flatten() for p in prunable(model).values()])
    Magnitude(model, settings()).cut(0.5)
    after = torch.cat([p.detach().abs().flatten() for p in prunable(model).values()])
    assert torch.equal(after, torch.where(before > before.sort().values[35], before, 0.0))


@pytest.mark.parametrize("name", METHODS)
def test_what_is_cut_stays_zero_and_the_rest_trains_on(name: str) -> None:
    model = mlp((6, 8, 3), 0)
    method = METHODS[name](model, settings(lr=0.01, momentum=0.9, strength=1e-4))
    method.before(iter([batch()]), F.cross_entropy)
    for number in range(1, 11):
        step(method, number)
    method.cut(0.5)
    assert zeros(model) == 36
    masks = {key: p == 0 for key, p in prunable(model).items()}
    before = {key: p.detach().clone() for key, p in prunable(model).items()}
    for number in range(80, 90):
        step(method, number)
    for key, p in prunable(model).items():
        assert torch.equal(p == 0, masks[key])
        assert not torch.equal(p, before[key])


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if not kind.serves_all])
def test_a_method_of_one_sparsity_says_so(name: str) -> None:
    method = METHODS[name](mlp((6, 8, 3), 0), settings(sparsity=None))
    with pytest.raises(ValueError, match="give the run one"):
        method.at_start()
