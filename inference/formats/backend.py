"""What a library must offer to be a CSR backend."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from inference.formats.arrays import CSRArrays


class Backend(NamedTuple):
    """How one library wraps CSR arrays in its own matrix, takes it apart again, and multiplies."""

    wrap: Callable[[CSRArrays], Any]
    """Makes a matrix. It may share the arrays' memory, and raises TypeError for a dtype that the
    library lacks."""
    unwrap: Callable[[Any], CSRArrays | None]
    """Return None for an object that is not this library's."""
    multiply: Callable[[Any, Tensor], Tensor] = operator.matmul
    """Matrix ``[rows, columns]`` times tensor ``[columns, m]``, of any strides and of the matrix's
    dtype: a new tensor ``[rows, m]``. Any of the sizes may be 0."""
