"""One run from training to page, on data that takes no time, and what the page chooses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.data import Data, Split
from benchmarks.records import Records
from benchmarks.structured import trial
from benchmarks.structured.choice import choose
from benchmarks.structured.figure import frontier, write_points
from benchmarks.structured.report import report
from benchmarks.structured.setups import SETUPS
from benchmarks.structured.speed import time_missing
from tests.helpers import seeded


def data(count: int = 64) -> Data:
    inputs = torch.randn(count, 1, 8, 8, generator=seeded(0))
    split = Split(inputs, (inputs.mean((1, 2, 3)) > 0).long())
    return Data(split, split, split)


def config(method: str, **other: Any) -> dict[str, Any]:
    found = next(c for c in trial.configurations("digits") if c["method"] == method)
    return {**found, "epochs": 3, "finetune": min(1, found["finetune"]), **other}


@pytest.mark.parametrize("method", ["dwf-3", "group-lasso"])
def test_a_run_measures_smaller_and_smaller_networks(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETUPS, "digits", dataclasses.replace(SETUPS["digits"], kept=(0.5, 0.25)))
    monkeypatch.setattr(trial, "HOPELESS", 1.0)
    result = trial.run(config(method), data())
    assert result["finite"]
    first, second = result["points"]
    assert (sum(first["units"]), sum(second["units"])) == (112 / 2, 112 / 4)
    full, half = first["flops"]
    assert second["flops"][0] == full > half > second["flops"][1]
    # float32, logits of a network that was hardly trained.
    assert first["difference"] < 1e-5
    assert not first["stuck"]


def row(method: str, strength: float, *points: tuple[float, float]) -> tuple[dict, dict]:
    """One run; points are FLOPs saved and validation accuracy."""
    found = [
        {
            "kept": 0.5,
            "units": [4, 4, 8],
            "flops": [6000, round(6000 / saved)],
            "parameters": [900, 300],
            "difference": 1e-6,
            "validation": accuracy,
            "test": accuracy - 0.001,
        }
        for saved, accuracy in points
    ]
    result = {"finite": True, "losses": [0.1], "validation": 0.95, "test": 0.94, "points": found}
    return config(method, strength=strength), result


@pytest.fixture
def records(tmp_path: Path) -> Records:
    made = Records(tmp_path / "structured.jsonl")
    made.add(*row("dense", 0.0, (2, 0.94)))
    made.add(*row("dwf-3", 4e-3, (5, 0.946), (10, 0.944)))
    made.add(*row("dwf-3", 8e-3, (6, 0.9455), (20, 0.86)))
    made.add(*row("group-lasso", 4e-3, (3, 0.7)))
    return made


def test_the_smallest_network_that_is_good_enough_is_chosen(records: Records) -> None:
    # The dense network has 0.95.
    saved = {a: choose(records, "digits", "dwf-3", a) for a in (0.001, 0.005, 0.05, 0.1)}
    assert saved.pop(0.001) is None
    assert [round(chosen.saved) for chosen in saved.values() if chosen] == [6, 10, 20]
    assert choose(records, "digits", "group-lasso", 0.1) is None


def test_the_page_shows_losses_and_what_was_not_run(records: Records, tmp_path: Path) -> None:
    page = report(records, Records(tmp_path / "none.jsonl"))
    summary = [line for line in page.split("## ")[1].splitlines() if line.startswith("| ")]
    cells = {line.split(" | ")[0][2:]: line.strip("| ").split(" | ")[1:] for line in summary[:9]}
    assert cells["DWF, D = 3"] == ["6.0x", "94.45%", "10.0x", "94.30%", "20.0x", "85.90%"]
    assert [cells["group lasso"][k] for k in (0, 2, 4)] == ["none"] * 3
    assert cells["DWF, D = 2"][0] == "not run"
    assert cells["network slimming"][0] == "no BatchNorm"


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    empty = Records(tmp_path / "none.jsonl")
    page = report(empty, empty)
    assert "| published: D-Gating, D = 4 |  |  | 18.9x |  | 49x |  |" in page


def test_the_figure_has_the_networks_that_none_beats(records: Records, tmp_path: Path) -> None:
    assert frontier(records, "digits", "dwf-3") == [(5, 0.946), (6, 0.9455), (10, 0.944), (20, 0.86)]
    assert write_points(tmp_path / "a.png", records)
    assert (tmp_path / "a.png").stat().st_size > 0
    assert not write_points(tmp_path / "b.png", Records(tmp_path / "none.jsonl"))


def test_what_the_summary_names_is_timed_once(records: Records, tmp_path: Path) -> None:
    timings = Records(tmp_path / "speed.jsonl")
    for _ in range(2):
        time_missing("digits", records, timings, seconds=0.0)
    # One size of two methods, at two batches.
    assert len(timings.rows) == 4
    assert "Milliseconds" in report(records, timings)
    # Of runs that are gone nothing is shown.
    assert "Milliseconds" not in report(Records(tmp_path / "none.jsonl"), timings)
