"""The optional packages that this one needs, or an error that says how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType


def need(name: str) -> ModuleType:
    """Import a package of the ``onnx`` extra.

    Args:
        name: "onnx" or "onnxruntime".

    Returns:
        The package.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this needs the package {name!r}, which cannot be imported ({error}); "
            "install the extra: pip install 'dwf-optim[onnx]'"
        ) from error
