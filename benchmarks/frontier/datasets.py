"""All data sets by name, split and scaled alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import Data, Split
from benchmarks.frontier.cifar import load_cifar
from benchmarks.frontier.idx import Arrays, load_idx
from benchmarks.frontier.npz import load_cifar10_npz, load_mnist_npz
from benchmarks.text import load_text


def load_digits(directory: Path) -> Arrays:
    """Load scikit-learn's 1797 digits, which need no file: ``[n, 8, 8]``, a fifth of them to test."""
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    pixels = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = order[:360], order[360:]
    return {"train": (pixels[train], labels[train]), "test": (pixels[test], labels[test])}


LOADERS: dict[str, Callable[[Path], Arrays]] = {
    "digits": load_digits,
    "mnist": load_mnist_npz,
    "mnist-idx": partial(load_idx, name="mnist"),
    "fashion": partial(load_idx, name="fashion"),
    "kuzushiji": partial(load_idx, name="kuzushiji"),
    "cifar10": load_cifar10_npz,
    "cifar10-binary": partial(load_cifar, name="cifar10"),
    "cifar100-binary": partial(load_cifar, name="cifar100"),
}
# Not images: characters, which this Python brings along.
TEXT = "text"
# Images of the training set that are held out, to choose by; of small sets a sixth.
VALIDATION = 5000


def load(name: str, directory: Path, device: torch.device, validation: int = VALIDATION) -> Data:
    """Load a data set onto a device, where it stays.

    Args:
        name: In `LOADERS`, or `TEXT`.
        directory: Holds its files.
        device: Where to.
        validation: How many training images are held out, a sixth at most; always the same.

    Returns:
        Images ``[n, channels, height, width]``, float32; of mean 0 and spread 1 in every channel of the
        training images. Of text what `benchmarks.text.load_text` cuts it into.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the name is unknown, or a file damaged.
    """
    if name == TEXT:
        text, _ = load_text()
        return Data(
            *(
                Split(part.inputs.to(device), part.targets.to(device))
                for part in (text.train, text.validation, text.test)
            )
        )
    if name not in LOADERS:
        raise ValueError(f"unknown data set {name!r}; there are {sorted([*LOADERS, TEXT])}")
    arrays = LOADERS[name](directory)
    images, labels = arrays["train"]
    order = np.random.default_rng(0).permutation(len(labels))
    count = min(validation, len(order) // 6)
    held, kept = order[:count], order[count:]
    pixels = _images(images[kept])
    axes = (0, 2, 3)
    mean = pixels.mean(axes, dtype=np.float64, keepdims=True).astype(np.float32)
    spread = pixels.std(axes, dtype=np.float64, keepdims=True).astype(np.float32)

    def split(images: np.ndarray, labels: np.ndarray) -> Split:
        scaled = torch.from_numpy((_images(images) - mean) / spread)
        return Split(scaled.to(device), torch.from_numpy(labels.astype(np.int64)).to(device))

    parts = (images[kept], labels[kept]), (images[held], labels[held]), arrays["test"]
    return Data(*(split(*part) for part in parts))


def _images(images: np.ndarray) -> np.ndarray:
    """Return pixels of 0 to 1 with a channel."""
    shaped = images[:, None] if images.ndim == 3 else images
    pixels: np.ndarray = shaped.astype(np.float32) / np.float32(255)
    return pixels
