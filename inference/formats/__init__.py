"""Dense weights to compressed sparse rows (CSR) and back, for every library that has a CSR type.

All conversions meet in `CSRArrays`, the three plain arrays that every library wraps. One file makes
the `Backend` of each library; `inference.formats.registry` lists them.
"""

from inference.formats.arrays import FLOAT_DTYPES, CSRArrays, index_dtype
from inference.formats.backend import Backend
from inference.formats.convert import from_csr, to_csr
from inference.formats.registry import BACKENDS, find_backend
from inference.formats.weights import CSRWeights

__all__ = [
    "BACKENDS",
    "FLOAT_DTYPES",
    "Backend",
    "CSRArrays",
    "CSRWeights",
    "find_backend",
    "from_csr",
    "index_dtype",
    "to_csr",
]
