"""Results outlive a run that is stopped, and data that is not there is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.data import CIFAR10_FILES, load_cifar10, load_mnist
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


def test_cifar10_is_read_from_its_jpegs(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"cifar10_train\.npz is missing.*load_cifar10"):
        load_cifar10(tmp_path, train=1, validation=1, test=1)
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    files = []
    for colour in colours:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=95, subsampling=0)
        files.append(file.getvalue())
    for name in CIFAR10_FILES.values():
        np.savez(
            tmp_path / name,
            jpeg=np.frombuffer(b"".join(files), np.uint8),
            offsets=np.cumsum([0, *map(len, files)]),
            labels=np.array([7, 8, 9], np.uint8),
        )
    data = load_cifar10(tmp_path, train=2, validation=1, test=1)
    assert data.train.inputs.shape == (2, 3, 32, 32)
    assert [part.targets.tolist() for part in (data.train, data.validation, data.test)] == [
        [7, 8],
        [9],
        [7],
    ]
    # One third of the training pixels is 1, the rest 0: mean 1/3, spread sqrt(2)/3. A JPEG's colours are
    # those of its YCbCr, each rounded to an integer of 0 to 255 on the way there and back.
    for images, each in ((data.train.inputs, colours[:2]), (data.validation.inputs, colours[2:])):
        wanted = (torch.tensor(each) / 255 - 1 / 3) / (2**0.5 / 3)
        expected = wanted[:, :, None, None].expand(-1, -1, 32, 32)
        torch.testing.assert_close(images, expected, rtol=0, atol=3 / 255 / (2**0.5 / 3))
