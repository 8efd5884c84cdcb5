"""The CSR backends by name. Adding one is one file, that makes a `Backend`, and one line here."""

from typing import Any

from inference.formats import engine_matrix, scipy_csr, torch_csr, torch_sparse_tensor
from inference.formats.arrays import CSRArrays
from inference.formats.backend import Backend

BACKENDS: dict[str, Backend] = {
    "native": engine_matrix.BACKEND,
    "scipy": scipy_csr.BACKEND,
    "torch": torch_csr.BACKEND,
    "torch_sparse": torch_sparse_tensor.BACKEND,
}


def find_backend(name: str) -> Backend:
    """Look a CSR backend up by name.

    Args:
        name: A key of ``BACKENDS``.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name]


def unwrap(matrix: Any) -> CSRArrays:
    """Take the matrix of any backend apart.

    Args:
        matrix: Of one of ``BACKENDS``.

    Returns:
        Its arrays, which may share its memory.

    Raises:
        TypeError: If it is not a CSR matrix of a known backend.
        ValueError: If it is a batch or has other than 2 dimensions.
    """
    candidates = (backend.unwrap(matrix) for backend in BACKENDS.values())
    arrays = next((found for found in candidates if found is not None), None)
    if arrays is None:
        raise TypeError(
            f"expected a CSR matrix of {' or '.join(sorted(BACKENDS))}, got "
            f"{type(matrix).__name__}; other sparse formats convert with .tocsr() or "
            ".to_sparse_csr()"
        )
    return arrays
