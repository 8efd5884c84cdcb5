"""Results outlive a run that is stopped, and data that is not there is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.data import load_mnist
from benchmarks.records import Records


def test_what_is_done_is_skipped_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Records(path).add({"depth": 3, "lr": 0.1}, {"accuracy": 0.9})
    again = Records(path)
    assert again.has({"depth": 3, "lr": 0.1})
    assert not again.has({"depth": 2, "lr": 0.1})


def test_a_line_cut_off_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Records(path).add({"seed": 0}, {"accuracy": 0.9})
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    again = Records(path)
    assert len(again.rows) == 1
    again.add({"seed": 1}, {"accuracy": 0.8})
    assert [row["config"] for row in Records(path).rows] == [{"seed": 0}, {"seed": 1}]


def test_results_that_are_no_numbers_are_kept_as_null(tmp_path: Path) -> None:
    records = Records(tmp_path / "results.jsonl")
    records.add({"seed": 0}, {"loss": float("nan"), "compression": float("inf")})
    assert Records(records.path).rows[0]["result"] == {"loss": None, "compression": None}


def test_missing_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, SystemExit, ValueError), match=r"mnist\.npz"):
        load_mnist(tmp_path)
