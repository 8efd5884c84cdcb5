"""The idx format of MNIST and of what was made after it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from benchmarks.frontier.files import checked, read

# Types by the third byte; all are big-endian.
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {"train": "train", "test": "t10k"}
# Where to get each set, and md5 of images and labels, first to train and then to test.
SETS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "kuzushiji": (
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
}

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file, plain or .gz, in its own type and shape.

    Raises:
        ValueError: If it is no idx file, or shorter or longer than its header says.
    """
    content = read(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise ValueError(f"{path} is no idx file: it begins with {content[:4]!r}")
    kind, ndim = np.dtype(TYPES[content[2]]), content[3]
    begin = 4 + 4 * ndim
    if len(content) < begin:
        raise ValueError(f"{path} is cut off in its header of {begin} bytes: it has {len(content)}")
    shape = struct.unpack(f">{ndim}I", content[4:begin])
    expected = begin + kind.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(f"{path} is damaged: {shape} takes {expected} bytes, it has {len(content)}")
    return np.frombuffer(content, kind, offset=begin).reshape(shape)


def load_idx(directory: Path, name: str) -> Arrays:
    """Load a set of `SETS` from a folder of its four .gz files.

    Returns:
        Images ``[n, 28, 28]`` and labels ``[n]``, uint8, of "train" and "test".

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one is damaged, or another set's.
    """
    source, *sums = SETS[name]
    made: Arrays = {}
    for number, (part, prefix) in enumerate(PARTS.items()):
        files = [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"]
        images, labels = (
            read_idx(checked(directory / file, f"md5:{sums[2 * number + index]}", source + file))
            for index, file in enumerate(files)
        )
        made[part] = images, labels
    return made
