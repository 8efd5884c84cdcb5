"""The data sets of the benchmarks, as tensors that stay in memory."""

from __future__ import annotations

import argparse
import io
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA_VARIABLE = "DWF_DATA"
MNIST_FILE = "mnist.npz"
CIFAR10_FILES = {"train": "cifar10_train.npz", "test": "cifar10_test.npz"}

# What is taken from pixels of 0 to 1, and what they are then divided by, from the training images.
# One mean and one spread for all pixels: some are constant, and have no spread of their own.
SCALINGS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "unit": lambda pixels: (0.0, 1.0),
    "standard": lambda pixels: (float(pixels.mean()), float(pixels.std())),
}


@dataclass(frozen=True)
class Split:
    """Samples and their labels.

    Attributes:
        inputs: ``[samples, features]`` or ``[samples, channels, height, width]``, float32.
        targets: ``[samples]``, int64.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Data:
    """Training, validation and test data; validation is part of the published training set.

    Every choice (penalty, collapse) is made on validation, and test is read for the tables only.
    """

    train: Split
    validation: Split
    test: Split


def load_digits(scaling: str = "unit", seed: int = 0) -> Data:
    """Load scikit-learn's 1797 digits of 8x8: 360 to test, 270 to validate, 1167 to train.

    Args:
        scaling: A name in `SCALINGS`.
        seed: Of the stratified split; the benchmarks use 0 only.

    Returns:
        The data.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    inputs, targets = load(return_X_y=True)
    rest, test = train_test_split(
        np.arange(len(targets)), test_size=360, random_state=seed, stratify=targets
    )
    train, validation = train_test_split(rest, test_size=270, random_state=seed, stratify=targets[rest])
    parts = [(inputs[index] / 16, targets[index]) for index in (train, validation, test)]
    return _scale(scaling, *parts)


def load_mnist(directory: Path, scaling: str = "unit", validation: int = 5000, seed: int = 0) -> Data:
    """Load MNIST from ``mnist.npz`` (Keras's file: x_train, y_train, x_test, y_test).

    Args:
        directory: Holds the file.
        scaling: A name in `SCALINGS`.
        validation: How many of the 60000 training images are held out.
        seed: Of the choice of those images.

    Returns:
        The data.

    Raises:
        SystemExit: If the file is missing, with a message that says what to do.
    """
    path = directory / MNIST_FILE
    if not path.is_file():
        raise SystemExit(
            f"{path} is missing: download https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
            f"{MNIST_FILE} into a folder, and name the folder by --data or {DATA_VARIABLE}"
        )
    with np.load(path) as arrays:
        inputs, targets = _flat(arrays["x_train"]), arrays["y_train"]
        test = _flat(arrays["x_test"]), arrays["y_test"]
    order = np.random.default_rng(seed).permutation(len(targets))
    held, train = order[:validation], order[validation:]
    return _scale(scaling, *((inputs[i], targets[i]) for i in (train, held)), test)


def load_cifar10(directory: Path, *, train: int, validation: int, test: int) -> Data:
    """Load the first images of CIFAR-10, standardized, from ``cifar10_train.npz`` and ``.._test.npz``.

    Each file holds ``jpeg`` (the images' JPEG files, joined), ``offsets`` (where each begins, and the
    end), and ``labels``. Both are in random order of class, so the first images are a sample.

    Args:
        directory: Holds the files.
        train: How many images to train on.
        validation: How many of those that follow are held out.
        test: How many test images to load.

    Returns:
        The data, with inputs ``[samples, 3, 32, 32]``.

    Raises:
        SystemExit: If a file is missing, with a message that says what to do.
    """
    inputs, targets = _jpegs(directory / CIFAR10_FILES["train"], train + validation)
    return _scale(
        "standard",
        (inputs[:train], targets[:train]),
        (inputs[train:], targets[train:]),
        _jpegs(directory / CIFAR10_FILES["test"], test),
    )


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Give a script the option ``--data``."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get(DATA_VARIABLE, "data")),
        help=f"folder that holds {MNIST_FILE} and the like (default: ${DATA_VARIABLE}, or data)",
    )


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _jpegs(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the first images of a file as ``[count, 3, 32, 32]`` in 0 to 1, and their labels."""
    from PIL import Image  # comes with matplotlib

    if not path.is_file():
        raise SystemExit(
            f"{path} is missing: save CIFAR-10 there as load_cifar10's docstring says, and name the "
            f"folder by --data or {DATA_VARIABLE}"
        )
    with np.load(path) as arrays:
        data, offsets, labels = arrays["jpeg"], arrays["offsets"], arrays["labels"][:count]
    images = np.empty((count, 3, 32, 32), np.float32)
    for image, (start, end) in zip(images, itertools.pairwise(offsets[: count + 1]), strict=True):
        image[:] = np.asarray(Image.open(io.BytesIO(data[start:end].tobytes()))).transpose(2, 0, 1)
    return images / 255, labels


def _scale(scaling: str, *parts: tuple[np.ndarray, np.ndarray]) -> Data:
    shift, spread = SCALINGS[scaling](parts[0][0])
    return Data(
        *(
            Split(
                torch.from_numpy(((inputs - shift) / spread).astype(np.float32)),
                torch.from_numpy(targets.astype(np.int64)),
            )
            for inputs, targets in parts
        )
    )
