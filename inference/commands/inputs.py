"""What a model is run on: arrays from a file, or random ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    Attributes:
        name: As the model calls it.
        shape: Without the batch.
        dtype: Of NumPy, as "float32".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def shape(text: str) -> tuple[int, ...]:
    """Read a shape from the command line.

    Args:
        text: As "784" or "3,32,32"; without the batch.

    Raises:
        argparse.ArgumentTypeError: If it is something else.
    """
    try:
        found = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape; give whole numbers without the batch, as 3,32,32"
        )
    return found


def sizes(text: str) -> tuple[int, ...]:
    """Read batch sizes from the command line, as "1,64".

    Raises:
        argparse.ArgumentTypeError: If it is something else.
    """
    try:
        return shape(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} are no batch sizes; give whole numbers, as 1,64"
        ) from error


def random_inputs(specs: Sequence[ModelInput], batch: int, seed: int = 0) -> list[Array]:
    """Draw inputs: standard normal numbers, or 0 and 1 where integers are wanted.

    Args:
        specs: Of the model.
        batch: How many samples.
        seed: Of the draws.

    Returns:
        One array ``[batch, ...]`` for each.
    """
    random = np.random.default_rng(seed)
    made = []
    for spec in specs:
        size = (batch, *spec.shape)
        floating = spec.dtype.startswith("float")
        # Any table of embeddings has two rows.
        drawn = random.standard_normal(size) if floating else random.integers(0, 2, size)
        made.append(drawn.astype(spec.dtype))
    return made


def read_inputs(path: Path, specs: Sequence[ModelInput]) -> list[Array]:
    """Read inputs from a file.

    Args:
        path: A ``.npy`` of one array, or a ``.npz`` with an array for each input, by name or in order.
        specs: Of the model.

    Returns:
        One array ``[samples, ...]`` for each, as the model's dtypes.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds something else.
    """
    return _matched(read_arrays(path), specs, path)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read arrays of numbers from a file, whatever model they are for.

    Args:
        path: A ``.npy`` of one array, or a ``.npz``.

    Returns:
        Arrays ``[samples, ...]`` by name; that of a ``.npy`` has none.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds something else.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
    except OSError:
        raise
    except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly anything
        # NumPy's message is about turning the check for pickles off, which is no advice.
        raise ValueError(
            f"{path} is no .npy or .npz of plain arrays; write it by numpy.save or numpy.savez"
        ) from error
    for array in arrays.values():
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{path} holds {array.dtype} of shape {list(array.shape)}; expected numbers "
                "[samples, ...]"
            )
    return arrays


def _matched(arrays: Mapping[str, Array], specs: Sequence[ModelInput], path: Path) -> list[Array]:
    if len(arrays) != len(specs):
        raise ValueError(f"{path} holds {len(arrays)} arrays, the model takes {len(specs)}")
    named = all(spec.name in arrays for spec in specs)
    found = [arrays[spec.name] for spec in specs] if named else list(arrays.values())
    for array, spec in zip(found, specs, strict=True):
        if array.shape[1:] != spec.shape or len(array) == 0:
            wanted = ", ".join(map(str, ("samples", *spec.shape)))
            raise ValueError(
                f"input {spec.name!r} in {path} has shape {list(array.shape)}, expected [{wanted}]"
            )
    if len({len(array) for array in found}) > 1:
        raise ValueError(f"the arrays in {path} differ in their number of samples")
    return [np.ascontiguousarray(a, spec.dtype) for a, spec in zip(found, specs, strict=True)]
