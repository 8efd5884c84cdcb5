"""The loaders read what the formats say, and name what is missing or damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.frontier import cifar, datasets, idx, npz
from benchmarks.frontier.augment import crop_and_flip
from benchmarks.frontier.files import checked


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(idx.TYPES[code]).tobytes()


@pytest.mark.parametrize("code", idx.TYPES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_in_every_type(tmp_path: Path, code: int, suffix: str) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / f"images{suffix}"
    content = idx_bytes(array, code)
    path.write_bytes(gzip.compress(content) if suffix else content)
    np.testing.assert_array_equal(idx.read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "no idx file"),
        (b"", "no idx file"),
        (b"\0\0\x08\x03\0\0", "cut off in its header of 16 bytes: it has 6"),
        (idx_bytes(np.zeros((2, 3)))[:-1], r"damaged: \(2, 3\) takes 18 bytes, it has 17"),
        (idx_bytes(np.zeros((2, 3))) + b"x", "it has 19"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        idx.read_idx(path)


def test_a_gz_that_cannot_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(b"0" * 1000)[:-20])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        idx.read_idx(path)


def test_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileNotFoundError, match=r"a is missing: get it from there"):
        checked(path, "md5:00", "there")
    path.write_bytes(b"abc")
    assert checked(path, "md5:" + hashlib.md5(b"abc").hexdigest(), "there") == path
    with pytest.raises(ValueError, match=r"damaged, or another file: its sha256 is ba7816bf.* not 00"):
        checked(path, "sha256:00", "there")


def test_a_set_of_idx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = []
    for prefix, count in (("train", 8), ("t10k", 3)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        for file, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 2)):
            path = tmp_path / f"{prefix}-{file}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(array)))
            sums.append(hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"train-images.*not f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        datasets.load("mnist-idx", tmp_path, torch.device("cpu"))
    monkeypatch.setitem(idx.SETS, "mnist", ("https://example.org/", *sums))
    data = datasets.load("mnist-idx", tmp_path, torch.device("cpu"), validation=1)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [7, 1, 3]
    assert data.train.inputs.shape == (7, 1, 28, 28)
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert data.train.inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert data.test.targets.tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", cifar.SETS)
def test_cifar_archives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, _, label_bytes, train, test = cifar.SETS[name]
    generator = np.random.default_rng(0)
    rows = {file: generator.integers(0, 10, (4, label_bytes + cifar.PIXELS)) for file in (*train, *test)}
    with tarfile.open(tmp_path / archive, "w:gz") as opened:
        for file, array in rows.items():
            content = array.astype(np.uint8).tobytes()
            member = tarfile.TarInfo(f"folder/{file}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"tar\.gz is damaged, or another file"):
        cifar.load_cifar(tmp_path, name)
    md5 = hashlib.md5((tmp_path / archive).read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.SETS, name, (archive, md5, label_bytes, train, test))
    images, labels = cifar.load_cifar(tmp_path, name)["train"]
    expected = np.concatenate([rows[file] for file in train])
    assert images.shape == (4 * len(train), 3, 32, 32)
    assert labels.tolist() == expected[:, label_bytes - 1].tolist()
    assert images[1, 2, 0, 5] == expected[1, label_bytes + 2 * 1024 + 5]  # red, green, blue planes


def test_a_cifar_file_that_is_cut_off() -> None:
    with pytest.raises(ValueError, match=r"train\.bin is damaged: 100 bytes are no number of 3073"):
        cifar.parse(b"0" * 100, 1, "train.bin")


def test_jpegs_are_decoded_and_bad_ones_named(tmp_path: Path) -> None:
    from PIL import Image

    def jpeg(colour: tuple[int, int, int]) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(file, "JPEG", quality=95)
        return file.getvalue()

    contents = [jpeg((200, 0, 0)), jpeg((0, 0, 200))]
    path = tmp_path / "cifar10_test.npz"

    def write(contents: list[bytes]) -> None:
        offsets = np.cumsum([0, *map(len, contents)])
        joined = np.frombuffer(b"".join(contents), np.uint8)
        np.savez(path, jpeg=joined, offsets=offsets, labels=np.array([3, 5], np.uint8))

    write(contents)
    images, labels = npz.decoded(path)
    assert images.shape == (2, 3, 32, 32)
    # A plain colour survives JPEG to a few of 256 levels.
    assert np.abs(images.mean((2, 3)) - [[200, 0, 0], [0, 0, 200]]).max() < 6
    assert labels.tolist() == [3, 5]
    write([contents[0], b"not a jpeg"])
    with pytest.raises(ValueError, match="image 1 cannot be decoded"):
        npz.decoded(path)
    path.rename(tmp_path / "cifar10_train.npz")
    with pytest.raises(ValueError, match="damaged, or another file"):
        npz.load_cifar10_npz(tmp_path)


@pytest.mark.parametrize("name", sorted(datasets.LOADERS.keys() - {"digits"}))
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is missing: get it from"):
        datasets.load(name, tmp_path, torch.device("cpu"))


def test_unknown_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown data set 'imagenet'; there are"):
        datasets.load("imagenet", tmp_path, torch.device("cpu"))


def test_augmentation_moves_and_mirrors_and_does_no_more() -> None:
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
    made = crop_and_flip(images, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(images, [4] * 4)
    seen = set()
    for image, moved in zip(padded, made, strict=True):
        matches = {
            (top, left, flip)
            for flip in (False, True)
            for top in range(9)
            for left in range(9)
            if torch.equal(moved.flip(2) if flip else moved, image[:, top : top + 32, left : left + 32])
        }
        assert len(matches) == 1
        seen |= matches
    assert {flip for *_, flip in seen} == {False, True}
    assert len({(top, left) for top, left, _ in seen}) > 20
    again = crop_and_flip(images, torch.Generator().manual_seed(1))
    assert torch.equal(made, again)
