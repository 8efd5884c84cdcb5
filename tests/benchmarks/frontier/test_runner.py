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
from benchmarks.frontier.experiments import EXPERIMENTS, Experiment, key
from benchmarks.frontier.methods import METHODS
from benchmarks.frontier.metric import ERROR
from benchmarks.frontier.points import points_of
from benchmarks.frontier.report import to_csv
from benchmarks.frontier.trial import run
from benchmarks.records import CONFIG, RESULT, Records

SMALL = Experiment("digits", "MLP 64-300-100-10", 1, 128, (10.0, 50.0), seeds=(0, 1))


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setitem(experiments.EXPERIMENTS, "small", SMALL)
    return SMALL


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
    for experiment in EXPERIMENTS.values():
        sizes = {len(experiment.grid(name)) for name in METHODS}
        assert sizes == {4, 8}
    keys = [key(c) for e in EXPERIMENTS.values() for c in e.tuning()]
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
    assert all(len(point.values) == 2 for point in points["random"].values())
    assert to_csv(points, ERROR) == (tmp_path / "small.csv").read_text()
    assert len(to_csv(points, ERROR).splitlines()) == 3


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


@pytest.mark.parametrize("network", ["ResNet-8", "small VGG"])
def test_images_are_augmented_and_convolutions_trained(network: str) -> None:
    settings = Experiment("cifar10", network, 1, 16, (4.0,), augment=True).tuning(["gmp"])[0]
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
    # The page says so, for the documentation that includes it.
    assert {path.name for path in tmp_path.iterdir()} == {"small.jsonl", "small.md"}
    page = (tmp_path / "small.md").read_text()
    assert "**Not run yet.** By `python -m benchmarks.frontier run small`" in page
    assert "Runs to choose rates and strengths by: 100, of which 1 are there." in page


def test_a_run_keeps_its_key() -> None:
    """What has been run stays known when configurations learn to say more."""
    configs = experiments.EXPERIMENTS["digits"].tuning(["dwf-2"])
    assert key(configs[0]) == "f77d804318403717"
    assert not {"clip", "samples"} & configs[0].keys()
    limited = replace(SMALL, clip=1.0, samples=5).tuning(["dense"])[0]
    assert (limited["clip"], limited["samples"]) == (1.0, 5)


def test_samples_limit_what_is_trained_on_and_chosen_by() -> None:
    whole, part = data(64), data(64)
    for split in (part.train, part.validation):
        split.inputs[16:], split.targets[16:] = torch.nan, 0
    limited = config("dense", compressions=[1.0], samples=16)
    made = [run(limited, each)["points"] for each in (whole, part)]
    assert made[0] == made[1]
    assert made[0]


def test_gradients_are_clipped() -> None:
    points = [
        run(config("dense", compressions=[4.0], **clip), data())["points"]
        for clip in ({}, {"clip": 1e9}, {"clip": 1e-9})
    ]
    assert points[0] == points[1]
    # Weights that hardly move are cut as they began.
    start = run(config("dense", compressions=[4.0], lr=1e-12), data())["points"]
    assert points[2][0]["layers"] == start[0]["layers"] != points[0][0]["layers"]


def test_experiments_are_named_when_all_would_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["run"], "all experiments together take weeks"),
        (["report", "imagenet"], "unknown experiment ['imagenet']; there are digits"),
    ):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert message in capsys.readouterr().err


def test_smoke_runs_are_made_once_and_say_what_is_not_run(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    arguments = ["smoke", "digits", "--out", str(tmp_path)]
    command.main(arguments)
    written = (tmp_path / "smoke.jsonl").read_text()
    command.main(arguments)
    assert (tmp_path / "smoke.jsonl").read_text() == written
    page = (tmp_path / "smoke.md").read_text()
    for name in experiments.EXPERIMENTS:
        lines = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
        assert len(lines) == 2
        assert all(("not run" in line) == (name != "digits") for line in lines)
    assert torch.get_num_threads() == threads


def test_jobs_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["run", "mnist-lenet-5", "--jobs", "0"])
    assert "--jobs must be at least 1, got 0" in capsys.readouterr().err
