"""`sparsify` and `TargetSparsity` set whole groups to zero, and the report counts them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dwf_optim import DWFOptimizer, TargetSparsity, sparsify
from tests.helpers import kept_mass, seeded, step_with
from tests.reference.gates import CASES, Case
from tests.structure.common import PENALTY, groups, parameters

CHANNELS, SIZE = 3, 6


class Network(nn.Module):
    """A convolution by filters, a linear layer by neurons, and one by elements."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 8, 3)
        self.hidden = nn.Linear(8 * 16, 10)
        self.out = nn.Linear(10, 4)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=seeded(seed + p.numel())) * 0.2)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(torch.relu(self.conv(images)).flatten(1))))


def optimizer_of(model: Network, **options: Any) -> DWFOptimizer:
    conv, hidden = model.conv.weight, model.hidden.weight
    rest = [p for p in model.parameters() if p is not conv and p is not hidden]
    parts = [
        {"params": [conv], "structure": "filter"},
        {"params": [hidden], "structure": "neuron"},
        {"params": rest},
    ]
    return DWFOptimizer(parts, **{"lr": 0.05, "penalty": PENALTY, **options})


def images() -> Tensor:
    return torch.randn(2, CHANNELS, SIZE, SIZE, generator=seeded(3))


def candidates(model: Network) -> list[tuple[float, int]]:
    """Norm and number of weights of everything that can become zero at once."""
    weights = [w.detach() for w in (model.conv.weight, model.hidden.weight)]
    found = [(float(group.norm()), group.numel()) for weight in weights for group in weight]
    return [*found, *((abs(w), 1) for w in model.out.weight.flatten().tolist())]


def zero_groups(weight: Tensor) -> Tensor:
    return ~weight.detach().flatten(1).any(1)


@given(seed=st.integers(0, 99), threshold=st.floats(0.0, 3.0))
def test_threshold_is_of_a_groups_norm(seed: int, threshold: float) -> None:
    model = Network(seed)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sparsify(model, optimizer_of(model), threshold=threshold)
    for name in ("conv", "hidden"):
        old, new = before[f"{name}.weight"], model.get_parameter(f"{name}.weight")
        norms = old.flatten(1).norm(dim=1)
        # A norm in another order of additions may differ by a rounding each.
        decided = (norms - threshold).abs() > 1e-5
        assert torch.equal(zero_groups(new)[decided], (norms <= threshold)[decided])
        assert torch.equal(new[~zero_groups(new)], old[~zero_groups(new)])
    out = before["out.weight"]
    assert torch.equal(model.out.weight, torch.where(out.abs() > threshold, out, 0.0))


@given(seed=st.integers(0, 99), target=st.floats(0, 1, exclude_max=True))
def test_target_is_met_to_one_group(seed: int, target: float) -> None:
    model = Network(seed)
    everything = sorted(candidates(model))
    report = sparsify(model, optimizer_of(model), sparsity=target)
    gone = report.total - report.nonzero
    assert gone >= target * report.total - 1e-6
    # Without the last of them it would not have been enough.
    count = next(i for i in range(len(everything) + 1) if sum(n for _, n in everything[:i]) == gone)
    assert count == 0 or sum(n for _, n in everything[: count - 1]) < target * report.total
    for layer in report.layers:
        if layer.groups:
            weight = model.get_parameter(layer.name)
            assert layer.groups_alive == int((~zero_groups(weight)).sum())
            assert layer.nonzero == int(weight.count_nonzero())


def test_tolerance_loses_no_more_than_asked() -> None:
    model = Network()
    report = sparsify(model, optimizer_of(model), tolerance=5.0, evaluate=kept_mass, progress=False)
    assert report.metric_before is not None
    assert report.metric_after is not None
    assert 0 < report.metric_before - report.metric_after <= 5.0
    # One more candidate would have been one too many: all that are left are at least as large as those
    # that went.
    assert report.sparsity > 0
    left = min(norm for norm, _ in candidates(model) if norm > 0)
    assert left >= report.threshold


def test_zero_groups_stay_zero_in_training() -> None:
    model = Network()
    optimizer = optimizer_of(model, momentum=0.9)
    for _ in range(3):
        step_with(optimizer, {p: torch.randn(p.shape, generator=seeded(1)) for p in model.parameters()})
    sparsify(model, optimizer, sparsity=0.6)
    dead = {p: p == 0 for p in (model.conv.weight, model.hidden.weight)}
    for seed in range(5):
        step_with(
            optimizer, {p: torch.randn(p.shape, generator=seeded(seed)) for p in model.parameters()}
        )
    for p, zeros in dead.items():
        assert bool(zeros.any())
        assert torch.equal(p == 0, zeros)


def test_report_counts_groups_and_operations() -> None:
    model = Network()
    optimizer = optimizer_of(model)
    with torch.no_grad():
        model.conv.weight[:6] = 0
        model.hidden.weight[1] = 0
    model.train()
    report = sparsify(model, optimizer, threshold=0.0, example=images())
    assert model.training
    conv, hidden, out = report.layers
    assert (conv.groups, conv.groups_alive) == (8, 2)
    assert (hidden.groups, hidden.groups_alive) == (10, 9)
    assert (out.groups, out.groups_alive) == (None, None)
    # Two images: each output of a layer is a sum of as many products as a row of its weights has.
    per_filter, per_neuron = 2 * 2 * 16 * CHANNELS * 9, 2 * 2 * 8 * 16
    assert (conv.flops, conv.flops_alive) == (8 * per_filter, 2 * per_filter)
    assert (hidden.flops, hidden.flops_alive) == (10 * per_neuron, 9 * per_neuron)
    assert out.flops == out.flops_alive == 2 * 2 * 10 * 4
    assert report.flops == 8 * per_filter + 10 * per_neuron + 160
    assert report.flops_alive == 2 * per_filter + 9 * per_neuron + 160
    text = str(report)
    assert "2 of 8" in text
    assert "9 of 10" in text
    assert f"FLOPs {report.flops:,} -> {report.flops_alive:,}" in text
    plain = json.loads(report.to_json())
    assert plain["flops_alive"] == report.flops_alive
    assert plain["layers"][0]["groups_alive"] == 2
    assert "groups" not in plain["layers"][2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.structure))
def test_every_structure_goes_by_whole_groups(case: Case) -> None:
    (p,) = parameters([case])
    model = nn.ParameterDict({"p": p})
    optimizer = DWFOptimizer(groups([p], [case]), lr=0.1, penalty=PENALTY, min_ndim=1)
    norms = case.norms(p.detach())
    limit = float(norms.sort().values[(case.groups - 1) // 2])
    sparsify(model, optimizer, threshold=limit + 1e-9)
    for j in range(case.groups):
        assert bool((p[case.members(j)] == 0).all()) == bool(norms[j] <= limit)
        assert bool((p[case.members(j)] == 0).any()) == bool(norms[j] <= limit)


def test_target_sparsity_steers_groups() -> None:
    """Half of the neurons get no gradient but the penalty's; those are the ones that go."""
    model = nn.Linear(6, 8, bias=False)
    optimizer = DWFOptimizer(model.parameters(), lr=0.02, momentum=0.9, penalty=1e-3, structure="neuron")
    with torch.no_grad():
        model.weight.copy_(0.5 * torch.randn(8, 6, generator=seeded(1)))
    loop = TargetSparsity(optimizer, 0.5, total_steps=400)
    for _ in range(400):
        optimizer.zero_grad()
        (model.weight[:4] - 1).square().sum().backward()
        optimizer.step()
        loop.step()
    assert loop.reached_at is not None
    assert torch.equal(zero_groups(model.weight), torch.arange(8) >= 4)
    assert loop.current_sparsity() == 0.5
    # The penalty is off at the end, so that the others come to their target.
    torch.testing.assert_close(model.weight[:4], torch.ones(4, 6), rtol=0, atol=1e-3)


def test_a_run_too_short_for_any_group_is_explained_by_the_law_of_norms() -> None:
    model = Network()
    optimizer = optimizer_of(model, penalty=1e-3)
    for _ in range(3):
        step_with(optimizer, {p: torch.zeros_like(p) for p in model.parameters()})
    first, second, _ = optimizer.decay_budgets(1e-6)
    # From a norm of 0.58 to the threshold; the rate of three steps is lr itself.
    assert first == second
    assert math.isclose(first.required, math.log(0.58 / 1e-6) / 2)
    assert math.isclose(first.available, 3 * 0.05 * 1e-3)
    with pytest.warns(UserWarning, match="none could be"):
        sparsify(model, optimizer, threshold=1e-6)


def test_a_floor_keeps_whole_groups() -> None:
    model = Network()
    optimizer = optimizer_of(model)
    report = sparsify(model, optimizer, threshold=100.0, min_density={"conv.weight": 0.01})
    conv, hidden, _ = report.layers
    # A hundredth of 216 weights are three, which may lie in as many filters.
    assert conv.groups_alive is not None
    assert 1 <= conv.groups_alive <= 3
    assert conv.nonzero == conv.groups_alive * CHANNELS * 9
    assert hidden.groups_alive == 0
    with pytest.raises(ValueError, match="min_density keep"):
        sparsify(Network(), None, sparsity=0.9, min_density=0.5)
