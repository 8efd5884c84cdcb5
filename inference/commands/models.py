"""A torch model from an import path and a file of weights."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def build_model(import_path: str) -> nn.Module:
    """Import a model, or what makes one; from the current folder too.

    Args:
        import_path: As ``package.module:name``, where the name is a module, or a class or function that
            gives one without arguments. Importing runs that code.

    Raises:
        ValueError: If there is no such name, or it gives something else.
    """
    name, colon, attribute = import_path.partition(":")
    if not (name and colon and attribute):
        raise ValueError(f"--model takes package.module:name, got {import_path!r}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"--model {import_path}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(f"--model {import_path}: {name} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise ValueError(f"--model {import_path} is a {type(found).__name__}, not a model")
        try:
            found = found()
        except TypeError as error:
            raise ValueError(
                f"--model {import_path} cannot be called without arguments ({error}); name a function "
                "that makes your model"
            ) from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"--model {import_path} gives a {type(found).__name__}, not a torch.nn.Module")
    return found.eval()


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict, without unpickling anything but tensors.

    Args:
        path: Of ``torch.save`` or safetensors. A checkpoint that holds a "state_dict" or "model" is
            looked into.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it holds something else.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        # Its message is about turning the check off, which is no advice.
        raise ValueError(
            f"{path} cannot be read as a state dict; save it by torch.save(model.state_dict(), path) or "
            f"safetensors ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(value, Tensor) for value in loaded.values()
    ):
        raise ValueError(f"{path} holds no state dict (names to tensors); save model.state_dict()")
    return loaded


def load_model(import_path: str, weights: Path | None) -> nn.Module:
    """Build a model and fill in its weights.

    Args:
        import_path: For `build_model`.
        weights: For `read_weights`; None leaves the model as it is built.

    Raises:
        ValueError: If the weights are not those of this model.
    """
    model = build_model(import_path)
    if weights is not None:
        try:
            model.load_state_dict(read_weights(weights))
        except RuntimeError as error:  # torch's, which lists what is missing and what is too much
            raise ValueError(f"{weights} does not fit --model {import_path}: {error}") from error
    return model
