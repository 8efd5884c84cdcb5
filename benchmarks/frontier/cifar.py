"""CIFAR-10 and CIFAR-100 from the binary archives, whose members need no pickle."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from benchmarks.frontier.files import checked
from benchmarks.frontier.idx import Arrays

SOURCE = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32
# Archive, md5, label bytes an image (the last is the label), members to train and to test.
SETS = {
    "cifar10": (
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        1,
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
    ),
    "cifar100": (
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        2,
        ("train.bin",),
        ("test.bin",),
    ),
}


def parse(content: bytes, label_bytes: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read records of labels and pixels.

    Args:
        content: Of a member.
        label_bytes: Before the pixels of each image.
        name: For the message.

    Returns:
        Images ``[n, 3, 32, 32]`` and labels ``[n]``, uint8.

    Raises:
        ValueError: If it is not a whole number of records.
    """
    record = label_bytes + PIXELS
    if not content or len(content) % record:
        raise ValueError(f"{name} is damaged: {len(content)} bytes are no number of {record}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def load_cifar(directory: Path, name: str) -> Arrays:
    """Load a set of `SETS` from its archive.

    Returns:
        Images and labels of "train" and "test", as of `parse`.

    Raises:
        FileNotFoundError: If the archive is missing.
        ValueError: If it is damaged, or another.
    """
    archive, md5, label_bytes, *members = SETS[name]
    path = checked(directory / archive, f"md5:{md5}", SOURCE + archive)
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as opened:
        files = {member.name.rpartition("/")[2]: member for member in opened.getmembers()}

        def content(file: str) -> bytes:
            member = opened.extractfile(files[file])
            return b"" if member is None else member.read()

        made: Arrays = {}
        for part, wanted in zip(("train", "test"), members, strict=True):
            parsed = [parse(content(file), label_bytes, f"{path}:{file}") for file in wanted]
            images, labels = (np.concatenate(arrays) for arrays in zip(*parsed, strict=True))
            made[part] = images, labels
    return made
