"""The learning-rate study: its rules do what they say, its walk finds peaks, a small one runs whole."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

from benchmarks import lr_study
from benchmarks.data import Split, load_digits
from benchmarks.lr_curves import Curve, match, missing_rates, worst_first
from benchmarks.lr_rules import RULES, matching_scale
from benchmarks.lr_study import BASES, Net
from benchmarks.models import mlp
from benchmarks.records import CONFIG, RESULT, Records
from dwf_optim import DWFOptimizer, auto_lr_scale
from dwf_optim.learning_rate import REFERENCE_WEIGHT
from tests.helpers import seeded, step_with

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


# ----------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("rule", ["cap", "cap each"])
def test_capped_weights_move_no_further_than_in_the_dense_run(depth: int, rule: str) -> None:
    lr, sizes = 1e-7, torch.tensor([[0.02, REFERENCE_WEIGHT], [0.5, 3.0]], dtype=torch.float64)
    weight = Parameter(sizes.clone())
    with pytest.warns(UserWarning, match="even") if depth % 2 == 0 else nullcontext():
        optimizer = DWFOptimizer(
            [weight],
            lr,
            penalty=0.0,
            depth=depth,
            init="balanced",
            lr_scale=auto_lr_scale(depth, "sgd"),
        )
    RULES[rule](optimizer, torch.nn.Identity(), Split(sizes, sizes), "sgd")
    step_with(optimizer, {weight: torch.ones_like(weight)})
    # Balanced factors move a weight (|w| / 0.13)^(2 - 2/D) times as far as the dense step.
    uncapped = (sizes / REFERENCE_WEIGHT).pow(2 - 2 / depth)
    fastest = uncapped if rule == "cap each" else uncapped.max()
    # To first order in a factor's relative move, which is below lr * scale / 0.02 = 1e-4.
    torch.testing.assert_close(
        (sizes - weight.detach()) / lr, uncapped / fastest.clamp(min=1), rtol=1e-4, atol=1e-8
    )


def test_a_cap_moves_the_minimum() -> None:
    """Why caps are no default: where they act, the penalty turns into plain L2, a stronger one."""
    aim, penalty, scale = 2.0, 0.01, auto_lr_scale(3, "sgd")
    reached = {}
    for rule in ("auto", "cap each"):
        weight = Parameter(torch.full((1, 1), aim, dtype=torch.float64))
        optimizer = DWFOptimizer([weight], 0.05, penalty=penalty, init="balanced", lr_scale=scale)
        RULES[rule](optimizer, torch.nn.Identity(), Split(weight, weight), "sgd")
        for _ in range(800):
            step_with(optimizer, {weight: weight.detach() - aim})
        reached[rule] = float(weight.detach())
    # Balanced: c (w - a) pi + 2 lambda / D f = 0. Uncapped, c = 1, that is the minimum of the L_{2/3}
    # problem; capped, c = 1 / (s D |w|^{2 - 2/D}), that of (w - a)^2 / 2 + lambda s w^2. A step covers
    # at least lr of what is left: e^-40 after 800.
    w = reached["auto"]
    assert w - aim + 2 * penalty / 3 * w ** (2 / 3 - 1) == pytest.approx(0, abs=1e-9)
    assert reached["cap each"] == pytest.approx(aim / (1 + 2 * penalty * scale), abs=1e-9)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_matching_scale_matches_the_first_step(base: str, depth: int) -> None:
    cls, kind, lr = BASES[base].cls, BASES[base].kind, 1e-7
    generator = seeded(0)
    start = torch.randn(40, 30, generator=generator, dtype=torch.float64) / 10
    gradient = torch.randn(40, 30, generator=generator, dtype=torch.float64)
    weight, dense = Parameter(start.clone()), Parameter(start.clone())
    optimizer = DWFOptimizer([weight], lr, base=cls, penalty=0.0, depth=depth, lr_scale=1.0)
    scale = matching_scale([(optimizer.factors(weight), gradient)], kind)
    optimizer.param_groups[0]["lr_scale"] = scale
    step_with(optimizer, {weight: gradient})
    step_with(cls([dense], lr=lr), {dense: gradient})  # type: ignore[call-arg]
    moved, expected = ((p.detach() - start).square().mean().sqrt() for p in (weight, dense))
    # First order: a factor moves by less than scale * lr = 1e-5 of its typical size; Adam's eps of
    # 1e-8 is relative to factor gradients of 1e-3 and more.
    assert float(moved) == pytest.approx(float(expected), rel=1e-3)


def test_lowering_gradients_does_not_slow_an_adam_type_base() -> None:
    """Why there is no cap on gradients for Adam."""
    weights = []
    for factor in (1.0, 1e-2):
        weight = Parameter(torch.full((3, 4), 0.5, dtype=torch.float64))
        optimizer = DWFOptimizer([weight], 1e-3, base=torch.optim.Adam, penalty=0.0)
        for step in range(5):
            gradient = torch.randn(3, 4, generator=seeded(step), dtype=torch.float64)
            step_with(optimizer, {weight: factor * gradient})
        weights.append(weight.detach())
    # They differ by Adam's eps of 1e-8 against gradients of about 1e-3 a factor and more.
    moved = (weights[0] - 0.5).abs().max()
    assert (weights[0] - weights[1]).abs().max() < 1e-3 * moved


# ----------------------------------------------------------------------------------- the curves


def test_a_failed_run_is_never_the_best_and_marks_the_boundary() -> None:
    curve = Curve({0.01: (0.8,), 0.03: (0.9, 0.92), 0.1: (0.95, 0.0), 0.3: (0.99,)})
    assert curve.best == 0.03  # 0.3 has fewer seeds
    assert curve.height == pytest.approx(0.91)
    assert curve.boundary() == 0.1
    assert Curve({0.01: (0.8,), 0.03: (0.5,)}).boundary() is None


@given(
    heights=st.lists(st.integers(1, 100), min_size=5, max_size=5, unique=True),
    start=st.sampled_from(RATES),
)
def test_the_walk_ends_where_the_best_has_both_neighbours(heights: list[int], start: float) -> None:
    accuracies = dict(zip(RATES, heights, strict=True))
    done: dict[float, tuple[float, ...]] = {}
    while missing := missing_rates(RATES, start, Curve(dict(sorted(done.items()))) if done else None):
        done |= {lr: (accuracies[lr] / 100,) for lr in missing}
    best = RATES.index(Curve(dict(sorted(done.items()))).best)
    assert set(RATES[max(0, best - 1) : best + 2]) <= set(done)


def test_rules_are_ranked_by_the_largest_shift_first() -> None:
    dense = Curve({lr: (a,) for lr, a in zip(RATES, (0.8, 0.9, 0.95, 0.9, 0.1), strict=True)})
    near = match(RATES, dense, Curve({0.03: (0.5,), 0.1: (0.9,), 0.3: (0.94,), 1.0: (0.2,)}))
    far = match(RATES, dense, Curve({0.1: (0.9,), 0.3: (0.9,), 1.0: (0.91,)}))
    assert (near.shift, far.shift) == (1, 2)
    assert (near.holds, far.holds) == (True, False)
    open_above = match(RATES, dense, Curve({0.1: (0.9,), 0.3: (0.94,)}))
    assert (open_above.shift, open_above.holds) == (1, False)
    assert near.lost == pytest.approx(0.04)
    assert worst_first([near, near]) < worst_first([near, far])
    assert worst_first([near, far]) == pytest.approx((2, 0.025))


# ----------------------------------------------------------------------------------- the script


def test_a_small_study_runs_whole_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(seed: int) -> torch.nn.Module:
        return mlp((64, 8, 10), seed)

    tiny = Net(build, lambda directory: load_digits("standard"), 1167, 1, 128)
    monkeypatch.setattr(lr_study, "NETS", {"tiny": tiny})
    monkeypatch.setattr(lr_study, "DEPTHS", (3,))
    monkeypatch.setattr(sys, "argv", ["lr_study", "--out", str(tmp_path)])
    lr_study.main()
    assert "lr_study.md" in capsys.readouterr().out
    page = (tmp_path / "lr_study.md").read_text()
    rows = Records(tmp_path / "lr_study.jsonl").rows
    for base in BASES:
        assert f"### Best rates and where training fails, {base}" in page
        picture = tmp_path / f"lr_study_{base.lower()}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        runs = [row[CONFIG] for row in rows if row[CONFIG]["base"] == base]
        assert {c["rule"] for c in runs} == {"dense", *BASES[base].rules}
        final = {c["rule"] for c in runs if c["seed"] == 2}
        # The default is one of the two best, or a third.
        assert {"dense", "auto"} < final
        assert len(final) in (3, 4)
    # Three constants; what is capped starts from the first of them.
    sgd = [row for row in rows if row[CONFIG]["base"] == "SGD"]
    scales = {row[CONFIG]["rule"]: row[RESULT]["lr_scale"] for row in sgd}
    assert scales["raw"] == scales["dense"] == 1.0
    assert scales["cap"] == scales["cap each"] == scales["auto"] == auto_lr_scale(3, "sgd")
    assert scales["rms"] not in (scales["raw"], scales["auto"])
    lr_study.main()
    assert len(Records(tmp_path / "lr_study.jsonl").rows) == len(rows)
