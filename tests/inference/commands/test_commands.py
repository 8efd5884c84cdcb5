"""What each command answers, for every kind of source."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import inference
from inference.commands import main
from inference.commands.sources import ArtifactSource, open_source
from tests.inference.commands import factories
from tests.inference.commands.common import FACTORIES, answer, sparse_weights

Capture = pytest.CaptureFixture[str]
SOURCES = ("weights", "artifact", "onnx")
SHAPES = {"mlp": "12", "cnn": "3,8,8"}


@pytest.fixture(params=["mlp", "cnn"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def weights(name: str, tmp_path: Path) -> Path:
    return sparse_weights(getattr(factories, name)(), tmp_path / "weights.pt")


def arguments_of(source: str, name: str, weights: Path) -> list[object]:
    """Return the arguments that name one source, made first where it is a file."""
    model = getattr(factories, name)().eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    example = torch.zeros(1, *map(int, SHAPES[name].split(",")))
    if source == "weights":
        return [weights, "--model", f"{FACTORIES}:{name}", "--shape", SHAPES[name]]
    if source == "artifact":
        inference.compile(model, example, plan="static").save(weights.with_suffix(".dwf"))
        return [weights.with_suffix(".dwf")]
    inference.export_onnx(model, example, weights.with_suffix(".onnx"), "compact")
    return [weights.with_suffix(".onnx")]


@pytest.mark.parametrize("source", SOURCES)
def test_inspect_counts_the_weights(source: str, name: str, weights: Path, capsys: Capture) -> None:
    said = answer(capsys, "inspect", *arguments_of(source, name, weights))
    counts = torch.load(weights, weights_only=True)
    nonzero = sum(int(t.count_nonzero()) for t in counts.values() if t.dim() >= 2)
    if source == "onnx":
        assert sum(row["nonzero"] for row in said["weights"]) <= nonzero  # dead units are gone
        assert said["operators"]
    else:
        originals = [layer["original"] for layer in said["layers"] if layer["original"]]
        assert sum(layer["nonzero"] for layer in originals) == nonzero
    assert said["bytes"] == Path(arguments_of(source, name, weights)[0]).stat().st_size


def test_inspect_with_timing_has_microseconds(name: str, weights: Path, capsys: Capture) -> None:
    said = answer(
        capsys, "inspect", *arguments_of("weights", name, weights), "--timing", "--batch-sizes", "2"
    )
    assert all(times["2"] > 0 for layer in said["layers"] if (times := layer["microseconds"]))
    assert said["whole"]["2"]["engine"] > 0


@pytest.mark.parametrize("source", SOURCES)
def test_bench_times_every_way(source: str, name: str, weights: Path, capsys: Capture) -> None:
    said = answer(
        capsys,
        "bench",
        *arguments_of(source, name, weights),
        *("--batch-sizes", "1,3", "--seconds", "0.01"),
    )
    ways = {row["way"] for row in said["rows"]}
    expected = {"onnxruntime"} if source == "onnx" else {"engine", "torch, dense", "onnxruntime, dense"}
    assert ways == expected
    assert {row["batch"] for row in said["rows"]} == {1, 3}
    assert all(row["microseconds"] > 0 for row in said["rows"])


@pytest.mark.parametrize("source", SOURCES)
def test_check_agrees_with_the_dense_model(
    source: str, name: str, weights: Path, capsys: Capture
) -> None:
    arguments = arguments_of(source, name, weights)
    if source == "onnx":
        arguments += ["--model", f"{FACTORIES}:{name}", "--weights", weights]
    said = answer(capsys, "check", *arguments)
    assert said["passed"] is True
    assert said["samples"] == 1000
    assert 0 <= said["outputs"][0]["relative error"] <= 1e-5


@pytest.mark.parametrize("source", ["artifact", "onnx"])
def test_check_finds_a_difference(
    source: str, name: str, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = arguments_of(source, name, weights)
    state = torch.load(weights, weights_only=True)
    key = next(key for key, tensor in state.items() if tensor.dim() >= 2)
    state[key][state[key] != 0] *= 1.01
    torch.save(state, tmp_path / "other.pt")
    other = ["--model", f"{FACTORIES}:{name}", "--weights", str(tmp_path / "other.pt")]
    assert main(["check", *map(str, arguments), *other, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is False
    assert said["outputs"][0]["relative error"] > 1e-5


def test_check_takes_inputs_from_a_file(
    name: str, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    shape = map(int, SHAPES[name].split(","))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((7, *shape)))
    arguments = [*arguments_of("artifact", name, weights), "--inputs", tmp_path / "x.npy"]
    assert answer(capsys, "check", *arguments)["samples"] == 7
    model = [weights, "--model", f"{FACTORIES}:{name}", "--inputs", tmp_path / "x.npy"]
    assert answer(capsys, "check", *model)["samples"] == 7


def test_threads_reach_what_a_file_holds(name: str, weights: Path) -> None:
    (path,) = arguments_of("artifact", name, weights)
    options = Namespace(path=path, model=None, threads=2)
    source = open_source(options)
    assert isinstance(source, ArtifactSource)
    assert source.sparse.threads == 2


@pytest.mark.parametrize("source", ["weights", "artifact"])
def test_export_writes_files_that_check_accepts(
    source: str, name: str, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "exported"
    arguments = arguments_of(source, name, weights)
    said = answer(capsys, "export", *arguments, "--out", out, "--batch-sizes", "1")
    files = {path.name for path in out.iterdir()}
    assert files == {
        *("weights.dwf", "weights.compact.onnx", "weights.sparse.onnx", "weights.custom-op.onnx")
    }
    rows = {row["way"]: row for row in said["files"]}
    assert set(rows) == {
        "engine (artifact)",
        *(f"onnxruntime, {kind}" for kind in ("dense", "compact", "sparse", "custom-op")),
    }
    for row in rows.values():
        assert row["us at batch 1"] > 0
        assert row["max error"] <= 1e-5
        if row["file"] != "-":
            assert row["bytes"] == Path(row["file"]).stat().st_size
    for file in sorted(out.iterdir()):
        reference = ["--model", f"{FACTORIES}:{name}", "--weights", weights]
        assert answer(capsys, "check", file, *reference)["passed"] is True


def test_export_without_timing_writes_what_is_asked_for(
    name: str, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = [*arguments_of("weights", name, weights), "--out", tmp_path / "out", "--no-timing"]
    said = answer(capsys, "export", *arguments, "--kinds", "artifact,sparse")
    assert [row["way"] for row in said["files"]] == ["artifact", "sparse"]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_weights_come_as_safetensors_and_checkpoints_too(tmp_path: Path, capsys: Capture) -> None:
    model = factories.mlp()
    plain = sparse_weights(model, tmp_path / "plain.pt")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.ckpt")
    options = ("--model", f"{FACTORIES}:mlp", "--shape", "12")
    seen = [
        answer(capsys, "inspect", path, *options)["layers"]
        for path in (plain, tmp_path / "weights.safetensors", tmp_path / "checkpoint.ckpt")
    ]
    assert [layer["nonzero"] for layer in seen[0]] == [layer["nonzero"] for layer in seen[1]]
    assert [layer["nonzero"] for layer in seen[0]] == [layer["nonzero"] for layer in seen[2]]


def test_a_model_that_is_built_with_its_weights_needs_no_file(capsys: Capture) -> None:
    said = answer(capsys, "inspect", "--model", f"{FACTORIES}:built", "--shape", "12")
    assert [layer["kind"] for layer in said["layers"]] == ["Linear", "Linear"]


def test_models_of_several_inputs_take_them_from_a_file(tmp_path: Path, capsys: Capture) -> None:
    weights = sparse_weights(factories.Embedded(), tmp_path / "w.pt")
    np.savez(
        tmp_path / "x.npz",
        a=np.random.default_rng(0).random((6, 12)).astype(np.float32),
        b=np.arange(6) % 5,
    )
    options = ("--model", f"{FACTORIES}:Embedded", "--inputs", tmp_path / "x.npz")
    assert answer(capsys, "check", weights, *options)["passed"] is True


def test_models_of_indices_are_timed(tmp_path: Path, capsys: Capture) -> None:
    weights = sparse_weights(factories.Embedded(), tmp_path / "w.pt")
    np.savez(tmp_path / "x.npz", a=np.zeros((6, 12), np.float32), b=np.arange(6) % 5)
    options = ("--model", f"{FACTORIES}:Embedded", "--inputs", tmp_path / "x.npz")
    answer(capsys, "export", weights, *options, "--out", tmp_path, "--no-timing")
    for arguments in ((weights, *options), (tmp_path / "w.dwf",)):
        said = answer(capsys, "inspect", *arguments, "--timing", "--batch-sizes", "1")
        assert all(times["engine"] > 0 for times in said["whole"].values())


def test_an_operator_that_onnx_lacks_leaves_the_rest(tmp_path: Path, capsys: Capture) -> None:
    weights = sparse_weights(factories.sinc(), tmp_path / "w.pt")
    options = (weights, "--model", f"{FACTORIES}:sinc", "--shape", "12", "--batch-sizes", "1")
    said = answer(capsys, "bench", *options, "--seconds", "0.01")
    assert [row["way"] for row in said["rows"]] == ["engine", "torch, dense"]
    assert "aten.sinc.default" in "".join(said["left_out"])
    said = answer(capsys, "export", *options, "--out", tmp_path / "out", "--kinds", "artifact")
    assert [row["way"] for row in said["files"]] == ["artifact"]
    assert "aten.sinc.default" in "".join(said["not_measured"])
    assert (tmp_path / "out" / "w.dwf").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_artifacts_of_models_in_other_dtypes(
    dtype: torch.dtype, tmp_path: Path, capsys: Capture
) -> None:
    sparse_weights(model := factories.mlp(), tmp_path / "w.pt")
    example = torch.zeros(2, 12, dtype=dtype)
    inference.compile(model.to(dtype), example, plan="static").save(tmp_path / "w.dwf")
    assert answer(capsys, "check", tmp_path / "w.dwf")["passed"] is True
    assert answer(capsys, "inspect", tmp_path / "w.dwf", "--timing")["whole"]
    said = answer(capsys, "bench", tmp_path / "w.dwf", "--seconds", "0.01", "--batch-sizes", "1")
    assert {"engine", "torch, dense"} <= {row["way"] for row in said["rows"]}


@pytest.mark.parametrize("command", ["inspect", "bench", "check", "export"])
def test_people_get_tables(command: str, tmp_path: Path, capsys: Capture) -> None:
    weights = sparse_weights(factories.mlp(), tmp_path / "w.pt")
    arguments = [str(weights), "--model", f"{FACTORIES}:mlp", "--shape", "12"]
    if command == "bench":
        arguments += ["--seconds", "0.01"]
    if command == "export":
        arguments += ["--out", str(tmp_path / "out"), "--no-timing"]
    assert main([command, *arguments]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) > 3
    assert "{" not in out


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    weights = sparse_weights(factories.mlp(), tmp_path / "w.pt")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "inference", "check", weights),
            *("--model", f"{FACTORIES}:mlp", "--shape", "12"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "agree" in run.stdout
