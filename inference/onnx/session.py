"""Running exported models in onnxruntime, with the sparse engine's operator at hand."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.calls import check_threads
from inference.onnx.custom_op import DOMAIN
from inference.onnx.extra import need

if TYPE_CHECKING:
    import onnx
    import onnxruntime

THREADS_ENTRY = "dwf.threads"
OLDEST_RUNTIME = (1, 18)  # As in inference/csrc/onnxruntime/c_api.h
_NAMES = {"win32": "dwf_onnxruntime.dll"}


def library_path() -> Path:
    """Return where the library of the operator is, to load it elsewhere: in C++, or other languages.

    Raises:
        FileNotFoundError: If the package was installed without a compiler.
    """
    name = _NAMES.get(sys.platform, "libdwf_onnxruntime.so")
    folders = [Path(__file__).parents[1]]
    # An editable install keeps what is compiled in another folder than the sources.
    found = importlib.util.find_spec("inference._native")
    if found is not None and found.origin is not None:
        folders.append(Path(found.origin).parent)
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"the library for onnxruntime, {name}, is not in {folders[-1]}: "
        "the package was installed without a C++ compiler. Reinstall dwf-optim where there is one, or "
        "export the model as kind='compact', which every runtime takes"
    )


def session(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    threads: int = 1,
    options: onnxruntime.SessionOptions | None = None,
    **arguments: Any,
) -> onnxruntime.InferenceSession:
    """Open a model of any kind in onnxruntime.

    Args:
        model: The file, its content, or a model in memory.
        threads: How many work on one call, in our operator and in onnxruntime's own.
        options: Further options, left as they are but for the operator and the threads; a new one for
            each session.
        **arguments: For `onnxruntime.InferenceSession`; the provider is the CPU's by default.

    Returns:
        The session, as onnxruntime has it, for ``session.run(None, {"x": array})``; several threads may
        run it.

    Raises:
        ImportError: If onnxruntime is missing or too old.
        FileNotFoundError: If there is no such file, or the model has our operator and the package no
            compiled library.
        ValueError: If ``threads`` is below 1.
    """
    runtime: Any = need("onnxruntime")
    check_threads(threads)
    _check_version(runtime.__version__)
    if isinstance(model, str | os.PathLike):
        content: Any = os.fspath(model)
        if not Path(content).exists():
            raise FileNotFoundError(f"there is no file {content!r}")
    else:
        content = model if isinstance(model, bytes) else model.SerializeToString()
    if options is None:
        options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(THREADS_ENTRY, str(threads))
    missing = _register(options)
    arguments.setdefault("providers", ["CPUExecutionProvider"])
    try:
        made: onnxruntime.InferenceSession = runtime.InferenceSession(content, options, **arguments)
    except Exception as error:
        # Only our own operator needs the library; every other model runs without.
        if missing is not None and DOMAIN in str(error):
            raise missing from error
        raise
    return made


def _register(options: onnxruntime.SessionOptions) -> FileNotFoundError | None:
    """Give onnxruntime the library, or return why there is none."""
    try:
        options.register_custom_ops_library(str(library_path()))
    except FileNotFoundError as error:
        return error
    return None


def _check_version(version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_RUNTIME:
        wanted = ".".join(map(str, OLDEST_RUNTIME))
        raise ImportError(f"onnxruntime {version} is too old; install {wanted} or later")
