"""Runs resume, choose on validation alone, see the test set once, and are reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.data import Data, Split
from benchmarks.frontier import __main__ as command
from benchmarks.frontier import experiments, runner
from benchmarks.frontier.experiments import Experiment, grid, key
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.report import points_of, to_csv
from benchmarks.frontier.trial import run
from benchmarks.records import CONFIG, RESULT, Records

SMALL = Experiment("digits", "MLP 64-300-100-10", 1, 128, (10.0, 50.0), seeds=(0, 1))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiment]:
    monkeypatch.setitem(experiments.EXPERIMENTS, "small", SMALL)
    threads = torch.get_num_threads()
    yield SMALL
    torch.set_num_threads(threads)


def data(count: int = 64, shape: tuple[int, ...] = (1, 8, 8)) -> Data:
    generator = torch.Generator().manual_seed(0)

    def split() -> Split:
        return Split(torch.randn(count, *shape, generator=generator), torch.arange(count) % 10)

    return Data(split(), split(), split())


def config(method: str, **other: Any) -> dict[str, Any]:
    usual = Experiment("digits", "MLP 64-300-100-10", 2, 16, (4.0, 20.0)).tuning([method])[0]
    return {**usual, **other}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reaches_its_compression_and_repeats_itself(name: str) -> None:
    asked = [4.0, 20.0] if METHODS[name].serves_all else [20.0]
    made = run(config(name, compressions=asked), data())
    assert made["finite"]
    assert [point["compression"] for point in made["points"]] == asked
    for point in made["points"]:
        left = sum(point["layers"].values())
        assert left == pytest.approx(50_200 / point["compression"], abs=1)
        assert point["reached"] == pytest.approx(50_200 / left)
    again = run(config(name, compressions=asked), data())
    assert again["points"] == made["points"]


def test_one_training_that_serves_all_is_as_good_as_its_own() -> None:
    both = run(config("dwf-3", compressions=[4.0, 20.0]), data())["points"]
    (alone,) = run(config("dwf-3", compressions=[20.0]), data())["points"]
    assert both[1] == alone


def test_a_run_that_diverges_is_kept_as_one() -> None:
    made = run(config("dense", compressions=[1.0], lr=1e30), data())
    assert not made["finite"]
    assert made["points"] == []


def test_the_number_of_runs_to_tune_is_the_same_or_less_for_all() -> None:
    assert max(len(grid(name)) for name in METHODS) == 8
    assert all(len(grid(name)) in (4, 8) for name in METHODS)
    keys = [key(c) for e in experiments.EXPERIMENTS.values() for c in e.tuning()]
    assert len(set(keys)) == len(keys)


def test_an_experiment_resumes_chooses_and_reports(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(*arguments: str) -> None:
        command.main([*arguments, "small", "--method", "random", "--out", str(tmp_path)])

    go("run")
    path = tmp_path / "small.jsonl"
    rows = Records(path).rows
    tuning = [row for row in rows if row[CONFIG]["measure"] == "validation"]
    final = [row for row in rows if row[CONFIG]["measure"] == "test"]
    # Two compressions, four rates; then one rate each, two seeds.
    assert len(tuning) == 8
    assert len(final) == 4
    for row in final:
        asked = row[CONFIG]["compressions"]
        alike = [other for other in tuning if other[CONFIG]["compressions"] == asked]
        best = max(other[RESULT]["points"][0]["accuracy"] for other in alike if other[RESULT]["points"])
        (same,) = [other for other in alike if other[CONFIG]["lr"] == row[CONFIG]["lr"]]
        assert same[RESULT]["points"][0]["accuracy"] == best
    # What is cut off is run again, and what is there is not.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:50])
    calls: list[str] = []

    def counting(each: dict[str, Any], data: Data) -> dict[str, Any]:
        calls.append(key(each))
        return run(each, data)

    monkeypatch.setattr(runner, "run", counting)
    go("run")
    assert calls == [key(json.loads(lines[-1])[CONFIG])]
    assert "| random |" in (tmp_path / "small.md").read_text()
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    points = points_of(small, Records(path))
    assert set(points) == {"random"}
    assert all(len(point.errors) == 2 for point in points["random"].values())
    assert to_csv(points) == (tmp_path / "small.csv").read_text()
    assert len(to_csv(points).splitlines()) == 3


@pytest.mark.slow
def test_several_processes_do_what_one_does(tmp_path: Path) -> None:
    results = []
    for jobs in (1, 2):
        path = tmp_path / f"{jobs}.jsonl"
        runner.run_experiment(replace(SMALL, seeds=(0,)), path, tmp_path, jobs, ["random"])
        rows = Records(path).rows
        results.append({key(row[CONFIG]): row[RESULT]["points"] for row in rows})
    assert results[0] == results[1]
    assert len(results[0]) == 10


def test_images_are_augmented_and_convolutions_trained() -> None:
    settings = Experiment("cifar10", "ResNet-8", 1, 16, (4.0,), augment=True).tuning(["gmp"])[0]
    plain, augmented = (
        run({**settings, "augment": augment}, data(32, (3, 32, 32))) for augment in (False, True)
    )
    (point,) = augmented["points"]
    assert point["reached"] == pytest.approx(4, rel=1e-3)
    assert augmented["points"][0]["layers"] != plain["points"][0]["layers"]


def test_nothing_is_reported_before_all_is_tuned(
    small: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records(tmp_path / "small.jsonl")
    records.add(small.tuning(["random"])[0], {"points": [], "seconds": 1.0, "finite": True})
    assert points_of(small, records) == {}
    command.main(["report", "small", "--out", str(tmp_path)])
    assert "no complete runs of small yet" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["small.jsonl"]


def test_jobs_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["run", "mnist-lenet-5", "--jobs", "0"])
    assert "--jobs must be at least 1, got 0" in capsys.readouterr().err
