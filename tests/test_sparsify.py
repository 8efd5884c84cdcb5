"""`sparsify`: three rules, exact counts, and what the report says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.ranking import zeros_at
from tests.helpers import BASES, dwf, identical, kept_mass, mlp, seeded, snapshot, tally, train, zeros

FLOAT32_EPS = 2.0**-23


def bag(*tensors: Tensor) -> nn.Module:
    """A model of linear layers with these weights and no more."""
    layers = []
    for tensor in tensors:
        layer = nn.Linear(tensor.shape[1], tensor.shape[0], bias=False)
        layer.weight = nn.Parameter(tensor.clone())
        layers.append(layer)
    return nn.Sequential(*layers)


def sgd(model: nn.Module, **options: object) -> DWFOptimizer:
    return dwf(model, BASES[0], **options)


@given(st.integers(1, 10**10), st.floats(0, 1))
@example(33_806_630, 29_256_955 / 33_806_630)
@example(10, 0.3)
def test_a_sparsity_that_some_number_of_zeros_has_asks_for_that_number(total: int, part: float) -> None:
    count = int(part * total)
    assert zeros_at(count / total, total) == count


with_and_without = pytest.mark.parametrize("given_optimizer", [True, False])


# ------------------------------------------------------------------------------------ threshold


@with_and_without
def test_default_threshold_is_float32_eps(given_optimizer: bool) -> None:
    edge = FLOAT32_EPS
    model = bag(torch.tensor([[1.0, edge / 2, -edge / 2, 2 * edge, -2 * edge, 0.0]]))
    report = sparsify(model, sgd(model) if given_optimizer else None)
    expected = [[1.0, 0.0, 0.0, 2 * edge, -2 * edge, 0.0]]
    assert torch.equal(model[0].weight, torch.tensor(expected))
    assert report.threshold == edge


@with_and_without
@given(threshold=st.floats(0, 2, width=32), seed=st.integers(0, 999))
def test_threshold(given_optimizer: bool, threshold: float, seed: int) -> None:
    before = torch.randn(4, 7, generator=seeded(seed))
    model = bag(before)
    report = sparsify(model, sgd(model) if given_optimizer else None, threshold=threshold)
    assert torch.equal(model[0].weight, torch.where(before.abs() > threshold, before, 0.0))
    assert report.threshold == threshold


def test_a_run_too_short_for_any_zero_is_explained() -> None:
    model = mlp()
    optimizer = sgd(model)
    train(model, optimizer, 3)
    with pytest.warns(UserWarning, match=r"of 6\.47 needed.*raise penalty to .* or train for"):
        report = sparsify(model, optimizer)
    assert report.sparsity == 0
    # The advice holds: three steps at the lambda it names are enough.
    scale = 1 / (3 * 0.13 ** (4 / 3))
    lacking = math.log(0.05 / FLOAT32_EPS) / 2 / (3 * 0.05 * scale)
    with pytest.warns(UserWarning, match=f"raise penalty to {lacking:.2g}"):
        sparsify(model, optimizer)


def test_no_warning_where_a_weight_fell_or_could_have() -> None:
    model = mlp()
    optimizer = sgd(model)
    train(model, optimizer, 3)
    sparsify(model, optimizer, threshold=0.1)  # some fell; a warning would be an error
    other = mlp()
    enough = sgd(other, penalty=20.0, lr=1e-9, lr_scale=1.0)
    train(other, enough, 3)
    enough.param_groups[0]["penalty_sum"] = 7.0
    sparsify(other, enough)


# --------------------------------------------------------------------------------------- target


@with_and_without
@given(target=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 999))
def test_target_is_met_to_one_weight(given_optimizer: bool, target: float, seed: int) -> None:
    generator = seeded(seed)
    tensors = [torch.randn(5, 4, generator=generator), torch.randn(3, 5, generator=generator)]
    model = bag(*tensors)
    report = sparsify(model, sgd(model) if given_optimizer else None, sparsity=target)
    count = zeros(model)
    assert target <= count / 35 + 1e-9
    assert count - 1 < target * 35
    assert report.total - report.nonzero == count
    # Global: what is gone is nowhere larger than what is left.
    flat = torch.cat([t.flatten() for t in tensors]).abs()
    gone = torch.cat([p.detach().flatten() for p in model.parameters()]) == 0
    if 0 < count < 35:
        assert flat[gone].max() <= flat[~gone].min()
    if count:
        assert report.threshold == float(flat[gone].max())


@with_and_without
@pytest.mark.parametrize("count", range(12))
def test_ties_do_not_spoil_the_count(given_optimizer: bool, count: int) -> None:
    model = bag(torch.full((3, 2), 0.5), torch.full((2, 3), -0.5))
    sparsify(model, sgd(model) if given_optimizer else None, sparsity=count / 12)
    assert zeros(model) == count


def test_round_targets_are_not_spoiled_by_rounding() -> None:
    for percent in range(100):
        model = bag(torch.randn(10, 10, generator=seeded(1)))
        sparsify(model, sparsity=percent / 100)
        assert zeros(model) == percent


def test_existing_zeros_count_towards_the_target_and_stay() -> None:
    model = bag(torch.tensor([[0.0, 0.0, 0.0, 3.0, 1.0, 2.0]]))
    sparsify(model, sparsity=0.3)
    assert torch.equal(model[0].weight, torch.tensor([[0.0, 0.0, 0.0, 3.0, 1.0, 2.0]]))
    sparsify(model, sparsity=0.6)
    assert torch.equal(model[0].weight, torch.tensor([[0.0, 0.0, 0.0, 3.0, 0.0, 2.0]]))


# ------------------------------------------------------------------------------------ tolerance


@with_and_without
@given(share=st.floats(0, 0.9), seed=st.integers(0, 999))
def test_tolerance_finds_the_largest_sparsity(given_optimizer: bool, share: float, seed: int) -> None:
    before = torch.randn(6, 5, generator=seeded(seed))
    model = bag(before)
    tolerance = share * kept_mass(model)
    report = sparsify(
        model,
        sgd(model) if given_optimizer else None,
        tolerance=tolerance,
        evaluate=kept_mass,
        progress=False,
    )
    # By hand: the most of the smallest magnitudes whose sum is within the tolerance. The sum's
    # rounding (30 additions) may decide a draw either way.
    lost = before.double().abs().flatten().sort().values.cumsum(0)
    slack = 60 * 2.0**-53 * kept_mass(bag(before))
    assert int((lost <= tolerance - slack).sum()) <= zeros(model)
    assert zeros(model) <= int((lost <= tolerance + slack).sum())
    assert report.metric_before - report.metric_after <= tolerance + slack
    assert report.metric_after == kept_mass(model)


def test_tolerance_evaluates_logarithmically_and_shows_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    model = bag(torch.randn(32, 32, generator=seeded(0)))
    sparsify(model, tolerance=1.0, evaluate=tally(calls))
    assert len(calls) <= 10 + 2  # 2^10 weights; one before, one after
    assert "sparsify" in capsys.readouterr().err
    sparsify(model, tolerance=1.0, evaluate=kept_mass, progress=False)
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------------- report


def test_report_counts_layers_and_total() -> None:
    model = mlp()
    optimizer = sgd(model)
    train(model, optimizer, 2)
    values = iter([0.9, 0.8])
    report = sparsify(model, optimizer, sparsity=0.75, evaluate=lambda _: next(values))
    assert [layer.name for layer in report.layers] == ["0.weight", "2.weight"]
    assert [layer.shape for layer in report.layers] == [(8, 6), (3, 8)]
    for layer, weight in zip(report.layers, (model[0].weight, model[2].weight), strict=True):
        assert layer.total == weight.numel()
        assert layer.nonzero == int(weight.count_nonzero())
        assert layer.sparsity == pytest.approx(1 - layer.nonzero / layer.total)
    assert (report.total, report.nonzero) == (72, 18)
    assert (report.sparsity, report.compression_ratio) == (0.75, 4.0)
    assert (report.metric_before, report.metric_after) == (0.9, 0.8)


def test_report_as_text_dict_and_json() -> None:
    model = bag(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.zeros(2, 1))
    report = sparsify(model, threshold=0.5)
    plain = report.to_dict()
    assert json.loads(report.to_json()) == plain
    assert json.loads(report.to_json(indent=2)) == plain
    assert plain["layers"][0] == {
        "name": "0.weight",
        "shape": [1, 4],
        "total": 4,
        "nonzero": 1,
        "sparsity": 0.75,
        "compression_ratio": 4.0,
        "protected": 0,
    }
    assert plain["layers"][1]["compression_ratio"] is None  # infinite, which JSON cannot say
    assert plain["threshold"] == 0.5
    assert (plain["metric_before"], plain["metric_after"]) == (None, None)
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "shape", "weights", "nonzero", "sparsity", "compression"]
    assert ["0.weight", "1x4", "4", "1", "75.00%", "4.0"] in [line.split() for line in lines]
    assert ["total", "6", "1", "83.33%", "6.0"] in [line.split() for line in lines]
    assert "threshold 0.5" in lines


def test_only_factorized_tensors_are_touched() -> None:
    model = mlp()
    optimizer = DWFOptimizer(
        [
            {"params": [model[0].weight], "depth": 2},
            {"params": [model[0].bias, model[2].weight, model[2].bias], "depth": 1},
        ],
        lr=0.1,
        penalty=1e-3,
    )
    before = snapshot(model)
    report = sparsify(model, optimizer, threshold=100.0)
    assert [layer.name for layer in report.layers] == ["0.weight"]
    assert not model[0].weight.any()
    assert identical(snapshot(model)[1:], before[1:])


def test_without_optimizer_the_choice_is_param_groups() -> None:
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 2), nn.LayerNorm(2))
    report = sparsify(model, sparsity=0.5)
    assert [layer.name for layer in report.layers] == ["1.weight"]
    assert zeros(nn.Sequential(model[0])) == 0


def test_half_precision_models() -> None:
    model = mlp(torch.bfloat16)
    optimizer = sgd(model)
    train(model, optimizer, 3)
    sparsify(model, optimizer, sparsity=0.5)
    masks = [p == 0 for p in model.parameters() if p.ndim == 2]
    train(model, optimizer, 20)
    weights = [p for p in model.parameters() if p.ndim == 2]
    assert zeros(model) == 36
    assert all(torch.equal(p == 0, mask) for p, mask in zip(weights, masks, strict=True))
