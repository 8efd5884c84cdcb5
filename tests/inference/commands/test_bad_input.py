"""What cannot be used is said in one line, with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.commands import main
from tests.inference.commands import factories
from tests.inference.commands.common import FACTORIES, complaint, sparse_weights

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return sparse_weights(factories.mlp(), tmp_path / "w.pt")


def test_missing_and_foreign_files(tmp_path: Path, weights: Path, capsys: Capture) -> None:
    assert "there is no file" in complaint(capsys, "inspect", tmp_path / "none.dwf")
    assert "name a file, or --model" in complaint(capsys, "inspect")
    assert "weights only: say --model" in complaint(capsys, "inspect", weights)
    (tmp_path / "junk.dwf").write_bytes(b"junk")
    assert "junk.dwf" in complaint(capsys, "inspect", tmp_path / "junk.dwf")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    assert "junk.onnx" in complaint(capsys, "bench", tmp_path / "junk.onnx")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    options = ("--model", f"{FACTORIES}:mlp", "--shape", "12")
    assert "save it by torch.save" in complaint(capsys, "inspect", tmp_path / "junk.pt", *options)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    assert "as safetensors" in complaint(capsys, "inspect", tmp_path / "junk.safetensors", *options)


def test_pickles_are_not_run(tmp_path: Path, capsys: Capture) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "was run",)

    torch.save({"a": Hostile()}, tmp_path / "w.pt")
    options = ("--model", f"{FACTORIES}:mlp", "--shape", "12")
    assert "cannot be read" in complaint(capsys, "inspect", tmp_path / "w.pt", *options)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("mlp", "package.module:name"),
        ("no.such.module:x", "No module named"),
        (f"{FACTORIES}:nothing", "has no 'nothing'"),
        (f"{FACTORIES}:not_a_model", "is a int, not a model"),
        (f"{FACTORIES}:needs_arguments", "without arguments"),
        (f"{FACTORIES}:gives_a_number", "gives a int"),
        (f"{FACTORIES}:cnn", "does not fit"),
    ],
)
def test_models_that_are_none(model: str, says: str, weights: Path, capsys: Capture) -> None:
    assert says in complaint(capsys, "inspect", weights, "--model", model, "--shape", "12")


def test_inputs_that_do_not_fit(tmp_path: Path, weights: Path, capsys: Capture) -> None:
    model = ("--model", f"{FACTORIES}:mlp")
    assert "--shape" in complaint(capsys, "inspect", weights, *model)
    np.save(tmp_path / "x.npy", np.zeros((4, 12), np.float32))
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 12)), b=np.zeros((4, 12)))
    shape = ("--shape", "12")
    main(["export", *map(str, (weights, *model, *shape)), "--out", str(tmp_path), "--no-timing"])
    capsys.readouterr()
    artifact = tmp_path / "w.dwf"
    said = complaint(capsys, "check", artifact, "--inputs", tmp_path / "two.npz")
    assert "holds 2 arrays, the model takes 1" in said
    np.save(tmp_path / "x.npy", np.zeros((4, 11), np.float32))
    assert "expected [samples, 12]" in complaint(
        capsys, "check", artifact, "--inputs", tmp_path / "x.npy"
    )
    (tmp_path / "x.npy").write_bytes(b"junk")
    assert "no .npy or .npz" in complaint(capsys, "check", artifact, "--inputs", tmp_path / "x.npy")


def _write(path: Path, array: object) -> None:
    with path.open("wb") as file:  # numpy.save itself would add ".npy"
        np.save(file, array)


def _cut(path: Path) -> None:
    np.savez(path, x=np.zeros((4, 12), np.float32))
    path.write_bytes(path.read_bytes()[:40])


def _flip(path: Path) -> None:
    np.savez(path, x=np.zeros((4, 12), np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


NO_INPUTS: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "flipped": _flip,
    "text": lambda path: path.write_bytes(b"1,2,3"),
    "one number": lambda path: _write(path, np.float32(3)),
    "strings": lambda path: _write(path, np.array([["a"] * 12])),
    "objects": lambda path: _write(path, np.array([{}])),
}


def test_files_that_hold_no_inputs(weights: Path, tmp_path: Path, capsys: Capture) -> None:
    model = ("--model", f"{FACTORIES}:mlp")
    shape = ("--shape", "12")
    main(["export", *map(str, (weights, *model, *shape)), "--out", str(tmp_path), "--no-timing"])
    capsys.readouterr()
    for name, make in NO_INPUTS.items():
        make(file := tmp_path / f"{name}.npz")
        for arguments in (("inspect", weights, *model), ("check", tmp_path / "w.dwf")):
            said = complaint(capsys, *arguments, "--inputs", file)
            assert str(file) in said
            assert "allow_pickle" not in said


def test_numbers_out_of_range(weights: Path, capsys: Capture) -> None:
    model = (weights, "--model", f"{FACTORIES}:mlp", "--shape", "12")
    assert "--samples must be at least 1" in complaint(capsys, "check", *model, "--samples", "0")
    assert "--threads must be at least 1" in complaint(capsys, "bench", *model, "--threads", "0")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["inspect", "x", "--shape", "3,a"],
        ["bench", "x", "--batch-sizes", "0"],
        ["export", "x", "--out", "y", "--kinds", "pdf"],
        ["export", "x"],
    ],
)
def test_argparse_refuses_what_is_no_command(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m inference" in capsys.readouterr().err


def test_onnx_is_not_exported_again_and_needs_a_reference(
    tmp_path: Path, weights: Path, capsys: Capture
) -> None:
    model = ("--model", f"{FACTORIES}:mlp", "--shape", "12")
    main(["export", *map(str, (weights, *model)), "--out", str(tmp_path), "--no-timing"])
    capsys.readouterr()
    onnx = tmp_path / "w.compact.onnx"
    assert "is ONNX already" in complaint(capsys, "export", onnx, "--out", tmp_path)
    assert "needs a dense model to compare with" in complaint(capsys, "check", onnx)


def test_the_traceback_is_there_for_who_asks(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(tmp_path / "none"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_without_rich_json_still_works_and_tables_name_the_extra(weights: Path) -> None:
    script = (
        "import sys\n"
        "class NoRich:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'rich': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoRich())\n"
        "from inference.commands import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["check", str(weights), "--model", f"{FACTORIES}:mlp", "--shape", "12"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *arguments, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--json").returncode == 0
    refused = run()
    assert refused.returncode == 2
    assert "pip install 'dwf-optim[cli]'" in refused.stderr
