"""The data sets of this project's own: numpy archives in one folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from benchmarks.frontier.files import checked
from benchmarks.frontier.idx import Arrays

# sha256 of the files that the committed results were made with.
FILES = {
    "mnist.npz": "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    "cifar10_train.npz": "9c5890631c2fc93a1f5ca38a1bea239b70ee424ed296262fc75e1457ecc8dc70",
    "cifar10_test.npz": "7ef4d0394335c475d416d160ced2ee17b5d991820bf5a3f18fed7c5158372cdd",
}
GET_IT = "where this project's data are kept (../shared/data)"


def load_mnist_npz(directory: Path) -> Arrays:
    """Load MNIST: ``[n, 28, 28]`` and ``[n]``, uint8.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is damaged, or another.
    """
    with np.load(_checked(directory, "mnist.npz")) as arrays:
        return {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}


def load_cifar10_npz(directory: Path) -> Arrays:
    """Load CIFAR-10, which these files hold as JPEG: ``[n, 3, 32, 32]`` and ``[n]``, uint8.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one is damaged, or another.
    """
    return {part: decoded(_checked(directory, f"cifar10_{part}.npz")) for part in ("train", "test")}


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decode one file: image i is the JPEG in bytes offsets[i] to offsets[i + 1].

    Raises:
        ValueError: If an image cannot be decoded to 32 x 32 pixels.
    """
    from PIL import Image

    with np.load(path) as arrays:
        content, offsets, labels = arrays["jpeg"].tobytes(), arrays["offsets"], arrays["labels"]
    images = np.empty((len(labels), 3, 32, 32), np.uint8)
    for index in range(len(labels)):
        try:
            with Image.open(io.BytesIO(content[offsets[index] : offsets[index + 1]])) as image:
                images[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: image {index} cannot be decoded ({error})") from error
    return images, labels


def _checked(directory: Path, file: str) -> Path:
    return checked(directory / file, f"sha256:{FILES[file]}", GET_IT)
