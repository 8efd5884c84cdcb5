"""Tensors written to a file come back; a damaged file is refused, never unpickled."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import inference
from inference import load_state, save_state

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]


def raw(tensor: torch.Tensor) -> bytes:
    stored = torch.int16 if tensor.dtype == torch.bfloat16 else tensor.dtype
    return tensor.view(stored).numpy().tobytes()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Equal to the last bit, where -0.0 may have become +0.0 in what is stored as CSR."""

    def comparable(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
        plain = torch.where(tensor == 0, torch.zeros((), dtype=tensor.dtype), tensor)
        may_be_csr = tensor.is_floating_point() and tensor.dim() >= 2
        return tensor.dtype, tensor.shape, raw(plain if may_be_csr else tensor)

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
    save_state(folder / "any.dwf", written)
    assert same(load_state(folder / "any.dwf"), written)


def example() -> dict[str, torch.Tensor]:
    weight = torch.zeros(6, 9)
    weight[1, 2], weight[5, 8] = 1.0, torch.nan
    return {"0.weight": weight, "0.bias": torch.arange(6.0)}


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    save_state(folder / "example.dwf", example())
    return (folder / "example.dwf").read_bytes()


@given(data=st.data())
def test_truncated_files_are_refused(folder: Path, content: bytes, data: st.DataObject) -> None:
    path = folder / "cut.dwf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"cut\.dwf cannot be loaded"):
        load_state(path)


@given(data=st.data())
def test_a_flipped_bit_never_changes_a_number(folder: Path, content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = folder / "flipped.dwf"
    path.write_bytes(damaged)
    try:
        found = load_state(path)
    except ValueError as error:
        assert "flipped.dwf cannot be loaded" in str(error)  # noqa: PT017 - the other outcome is fine
    else:
        assert same(found, example())  # It hit a time stamp or the like.


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(Path(os.environ["BOMB"])),)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exploded = tmp_path / "exploded"
    monkeypatch.setenv("BOMB", str(exploded))
    path = tmp_path / "plain.dwf"
    path.write_bytes(pickle.dumps(Bomb()))
    for load in (load_state, inference.load):
        with pytest.raises(ValueError, match=r"plain\.dwf cannot be loaded"):
            load(path)
    assert not exploded.exists()
    pickle.loads(path.read_bytes())
    assert exploded.exists(), "the payload must be live for the test to mean anything"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.dwf"
    save_state(path, example())
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="no space left"):
            save_state(path, {"other": torch.ones(3)})
    assert path.read_bytes() == before
    with pytest.raises(TypeError, match=r"'c' is of torch\.complex64"):
        save_state(path, {"c": torch.ones(2, dtype=torch.complex64)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.dwf"]
    save_state(path, {"other": torch.ones(3)})
    assert list(load_state(path)) == ["other"]


def test_missing_files_are_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "nowhere.dwf")


@pytest.mark.parametrize("width", [2**16, 2**16 + 1])
def test_widths_around_the_limit_of_short_column_ids(tmp_path: Path, width: int) -> None:
    weight = torch.zeros(2, width)
    weight[0, 0] = weight[1, -1] = 1.0
    save_state(tmp_path / "wide.dwf", {"weight": weight})
    assert torch.equal(load_state(tmp_path / "wide.dwf")["weight"], weight)


def test_file_size_is_that_of_the_non_zeros(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1000, 500, generator=generator)
    weight *= torch.rand(1000, 500, generator=generator) < 0.01
    path = tmp_path / "small.dwf"
    save_state(path, {"weight": weight})
    nonzero = int(weight.count_nonzero())
    # A value and a gap of one byte or two; a row's count; what is left is for the header.
    assert 5 * nonzero + 1000 < path.stat().st_size < 6 * nonzero + 1000 + 2000


def test_a_models_state_dict(tmp_path: Path) -> None:
    convolution = nn.Conv2d(2, 3, 3)
    with torch.no_grad():
        convolution.weight[1] = 0
    model = nn.Sequential(convolution, nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    save_state(str(tmp_path / "model.dwf"), model.state_dict())
    restored = load_state(str(tmp_path / "model.dwf"))
    assert same(restored, dict(model.state_dict()))
    model.load_state_dict(restored)
