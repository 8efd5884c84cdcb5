"""Tensors written to a file come back; a damaged file is refused, never unpickled."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inference import read_csr, write_csr

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]


def raw(tensor: torch.Tensor) -> bytes:
    stored = torch.int16 if tensor.dtype == torch.bfloat16 else tensor.dtype
    return tensor.view(stored).numpy().tobytes()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Equal to the last bit, where -0.0 may have become +0.0 in what is stored as CSR."""

    def comparable(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
        plain = torch.where(tensor == 0, torch.zeros((), dtype=tensor.dtype), tensor)
        is_csr = tensor.is_floating_point() and tensor.dim() >= 2
        return tensor.dtype, tensor.shape, raw(plain if is_csr else tensor)

    return list(found) == list(expected) and all(
        comparable(found[name]) == comparable(expected[name]) for name in expected
    )


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    values = st.sampled_from([0.0, -0.0, 1.5, -3.0, torch.inf, torch.nan, 2.0**-140])
    count = int(np.prod(shape))
    drawn = draw(st.lists(values, min_size=count, max_size=count))
    tensor = torch.tensor(drawn, dtype=torch.float64).reshape(shape)
    return tensor.to(dtype) if dtype.is_floating_point else tensor.nan_to_num(7, 8, 9).to(dtype)


# One folder for all examples; pytest's tmp_path hypothesis refuses, as it looks fresh and is not.
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@given(written=st.dictionaries(st.text(max_size=8), tensors(), max_size=4))
def test_round_trip(folder: Path, written: dict[str, torch.Tensor]) -> None:
    write_csr(folder / "any.csr", written)
    assert same(read_csr(folder / "any.csr"), written)


def example() -> dict[str, torch.Tensor]:
    weight = torch.zeros(6, 9)
    weight[1, 2], weight[5, 8] = 1.0, torch.nan
    return {"0.weight": weight, "0.bias": torch.arange(6.0)}


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    write_csr(folder / "example.csr", example())
    return (folder / "example.csr").read_bytes()


@given(data=st.data())
def test_truncated_files_are_refused(folder: Path, content: bytes, data: st.DataObject) -> None:
    path = folder / "cut.csr"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"cut\.csr cannot be read .*write it again"):
        read_csr(path)


@given(data=st.data())
def test_a_flipped_bit_never_changes_a_number(folder: Path, content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = folder / "flipped.csr"
    path.write_bytes(damaged)
    try:
        found = read_csr(path)
    except ValueError as error:
        assert "flipped.csr cannot be read" in str(error)  # noqa: PT017 - the other outcome is fine
    else:
        assert same(found, example())  # It hit a time stamp or the like.


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(Path(os.environ["BOMB"])),)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exploded = tmp_path / "exploded"
    monkeypatch.setenv("BOMB", str(exploded))
    (tmp_path / "plain.csr").write_bytes(pickle.dumps(Bomb()))
    payload = io.BytesIO()
    np.save(payload, np.array([Bomb()], dtype=object), allow_pickle=True)
    write_csr(tmp_path / "good.csr", example())
    with (
        zipfile.ZipFile(tmp_path / "good.csr") as good,
        zipfile.ZipFile(tmp_path / "inside.csr", "w") as bad,
    ):
        for position, name in enumerate(good.namelist()):
            bad.writestr(name, good.read(name) if position else payload.getvalue())
    for name in ("plain.csr", "inside.csr"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_csr(tmp_path / name)
    assert not exploded.exists()
    with np.load(tmp_path / "inside.csr", allow_pickle=True) as archive:
        _ = [archive[name] for name in archive.files]
    assert exploded.exists(), "the payload must be live for the test to mean anything"


@pytest.mark.parametrize("column", [9, 65535])
def test_ids_outside_the_matrix_are_refused(tmp_path: Path, column: int) -> None:
    path = tmp_path / "crafted.csr"
    write_csr(path, example())
    with np.load(path) as archive:
        arrays = dict(archive)
    (name,) = (name for name in arrays if name.endswith("columns"))
    arrays[name][-1] = column
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"crafted\.csr .*not a valid CSR matrix"):
        read_csr(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.csr"
    write_csr(path, example())
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space left"):
            write_csr(path, {"other": torch.ones(3)})
    assert path.read_bytes() == before
    with pytest.raises(TypeError, match=r"'c' is torch\.strided of torch\.complex64"):
        write_csr(path, {"c": torch.ones(2, dtype=torch.complex64)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.csr"]
    write_csr(path, {"other": torch.ones(3)})
    assert list(read_csr(path)) == ["other"]


def test_missing_files_are_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_csr(tmp_path / "nowhere.csr")


@pytest.mark.parametrize("width", [2**16, 2**16 + 1])
def test_widths_around_the_limit_of_short_column_ids(tmp_path: Path, width: int) -> None:
    weight = torch.zeros(2, width)
    weight[0, 0] = weight[1, -1] = 1.0
    write_csr(tmp_path / "wide.csr", {"weight": weight})
    assert torch.equal(read_csr(tmp_path / "wide.csr")["weight"], weight)


def test_file_size_is_that_of_the_non_zeros(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1000, 500, generator=generator)
    weight *= torch.rand(1000, 500, generator=generator) < 0.01
    path = tmp_path / "small.csr"
    write_csr(path, {"weight": weight})
    numbers = int(weight.count_nonzero()) * (4 + 2) + 4 * 1001  # value + short id, row pointers
    # 64 bytes to 128 for each of 4 array headers, and the zip's own entries.
    assert numbers < path.stat().st_size < numbers + 2000


def test_a_models_state_dict(tmp_path: Path) -> None:
    convolution = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        convolution.weight[1] = 0
    model = nn.Sequential(convolution, nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    write_csr(str(tmp_path / "model.csr"), model.state_dict())
    restored = read_csr(str(tmp_path / "model.csr"))
    assert same(restored, dict(model.state_dict()))
    model.load_state_dict(restored)
