"""What the step benchmark counts, judges and writes; its times are its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import step, step_gpu, step_memory
from benchmarks.records import Records
from benchmarks.step_report import LIMITS, MET, MISSED, NOT_RUN, judge_memory, judge_times, write_report
from benchmarks.step_ways import COMPILED, dense_moved, footprint, moved, paths_of
from benchmarks.turns import ratios, take_turns


def config(**other: Any) -> dict[str, Any]:
    usual = {"depth": 3, "set": "lenet300", "base": "SGD momentum", "storage": "full", "threads": 1}
    return {**usual, **other}


@pytest.mark.parametrize(
    ("depth", "base", "expected"),
    [(2, "SGD momentum", 2.0), (3, "SGD momentum", 2.8), (4, "SGD momentum", 3.6), (3, "Adam", 20 / 7)],
)
def test_floors_are_those_that_were_derived_by_hand(depth: int, base: str, expected: float) -> None:
    """Per parameter, full storage: gradient and new weight, and every factor and its state twice."""
    case = config(depth=depth, base=base)
    assert moved(case) / dense_moved(case) == pytest.approx(expected)


def test_one_root_moves_little_more_than_dense_and_nothing_stored_as_much() -> None:
    assert moved(config(storage="tied")) == 4 * (1 + 1 + 2 + 2)
    assert moved(config(storage="ephemeral")) == dense_moved(config()) == 4 * (1 + 2 + 2)
    assert moved(config(depth=1)) == dense_moved(config())


def test_every_limit_is_among_the_configurations_and_their_paths() -> None:
    configs = step.configurations(memory=math.inf)
    for limit in LIMITS:
        for threads in (1, 2):
            case = config(set=limit.set, base=limit.base, storage=limit.storage, threads=threads)
            assert case in configs
            assert limit.path in paths_of(case, math.inf)


def test_nothing_is_run_that_does_not_fit() -> None:
    configs = step.configurations(memory=6.0)
    assert configs
    assert max(map(footprint, configs)) <= 6e9
    assert config(set="gpt2-small") in configs
    assert "parametrize" not in paths_of(config(set="gpt2-small"), 6.0)


def test_slow_ways_skip_turns_and_are_compared_in_their_own_rounds() -> None:
    clock = {"dense": 0.0, "quick": 0.0, "slow": 0.0}

    def way(name: str, seconds: float) -> Any:
        def turn() -> float:
            clock[name] += 1
            return seconds * clock[name]

        return turn

    ways = {"dense": way("dense", 1.0), "quick": way("quick", 2.0), "slow": way("slow", 3.0)}
    times = take_turns(ways, "dense", seconds=0.0, least=4)
    assert [len(times[name]) for name in ways] == [4, 4, 4]
    assert ratios(times, "slow", "dense") == [3.0] * 4
    del times["slow"][0], times["slow"][2]
    assert ratios(times, "slow", "dense") == [3.0] * 2


def way(ratio: float, of_stream: float = 1.0) -> dict[str, Any]:
    return {"ms": 1.0, "ratio": ratio, "quartiles": [ratio, ratio], "of_stream": of_stream}


def found(native: dict[str, Any]) -> dict[str, Any]:
    return {"rounds": 3, "bandwidth": 10.0, "dense fused": way(1.0), "native": native}


def verdicts(records: Records, name: str) -> list[str]:
    return [row[-1] for row in judge_times(records) if row[0] == name and row[2:4] == ["full", "native"]]


def test_a_limit_is_met_missed_or_not_run(tmp_path: Path) -> None:
    records = Records(tmp_path / "step.jsonl")
    records.add(config(), found(way(2.0)))
    records.add(config(threads=2), found(way(2.01)))
    assert verdicts(records, "lenet300") == [MET, MISSED]
    assert verdicts(records, "many-small") == [NOT_RUN, NOT_RUN]


def test_large_sets_must_reach_the_stream_too(tmp_path: Path) -> None:
    records = Records(tmp_path / "step.jsonl")
    records.add(config(set="resnet18"), found(way(2.9, of_stream=0.9)))
    records.add(config(set="resnet18", threads=2), found(way(2.9, of_stream=0.89)))
    assert verdicts(records, "resnet18")[:2] == [MET, MISSED]


@pytest.mark.parametrize(("resident", "verdict"), [(24.9, MET), (25.1, MISSED)])
def test_memory_is_judged_by_the_larger_number(tmp_path: Path, resident: float, verdict: str) -> None:
    peaks = Records(tmp_path / "step_memory.jsonl")
    numbers = {"allocator": 24.0, "resident": resident}
    case = {"set": "resnet18", "base": "SGD momentum", "depth": 3, "storage": "full", "path": "native"}
    peaks.add(case, {"start": numbers, "steady": numbers})
    assert judge_memory(peaks)[0][-1] == verdict


def test_a_small_run_writes_page_table_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMPILED, "depth", ())  # it takes too long
    records, peaks = Records(tmp_path / "step.jsonl"), Records(tmp_path / "step_memory.jsonl")
    for storage in ("full", "ephemeral"):
        records.add(config(storage=storage), step.measure(config(storage=storage), 0.0, 6.0))
    write_report(records, peaks, tmp_path)
    result = records.rows[0]["result"]
    assert {"reference", "blocked", "native", "parametrize"} <= result.keys()
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "| lenet300 | SGD momentum | full | native | 1 | 2 | 2.80 |"
        in (tmp_path / "step.md").read_text()
    )
    assert len((tmp_path / "step.csv").read_text().splitlines()) > 6


def test_memory_of_an_optimizer_is_what_it_keeps() -> None:
    """A root and its momentum, 8 bytes a parameter, and a block of scratch at most."""
    case = {"set": "vgg19", "base": "SGD momentum", "depth": 3, "storage": "tied", "path": "native"}
    steady = step_memory.in_a_process(case)["steady"]
    assert 7.9 <= steady["allocator"] <= 9


def test_the_benchmark_for_a_gpu_measures_and_writes(tmp_path: Path) -> None:
    """On a CPU: kernels on the device are none, and all else is as it would be there."""
    cpu = torch.device("cpu")
    configs = [c for c in step_gpu.configurations("cpu") if c["set"] == "lenet300" and c["depth"] == 3]
    assert [c["base"] for c in configs] == ["SGD momentum", "Adam"]
    records = Records(tmp_path / "step_gpu.jsonl")
    records.add(configs[0], step_gpu.measure(configs[0], cpu, 0.0, paths=("reference", "blocked")))
    result = records.rows[0]["result"]
    assert result["rounds"] >= 3
    for path in ("reference", "blocked"):
        assert result[path]["kernels"] == 0
        assert result[path]["of_copy"] > 0
    (row,) = [line for line in step_gpu.report(records).splitlines() if line.startswith("| cpu ")]
    cells = row.strip("| ").split(" | ")
    assert cells[1:4] == ["lenet300", "SGD momentum", "3"]
    assert cells[5] == "2.80"


def test_without_a_gpu_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        step_gpu.main([])
    assert "no CUDA device" in capsys.readouterr().err
