"""What the tests of CSR share: which backend takes what, and weights of any bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

INTEGER = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
# Every dtype that each backend is documented to take: as a matrix, and in products on the CPU.
MATRICES = {
    "native": [torch.float32],
    "scipy": [torch.float32, torch.float64],
    "torch": list(INTEGER),
    "torch_sparse": list(INTEGER),
}
PRODUCTS = {**MATRICES, "torch": [torch.float32, torch.float64]}


def _marked(name: str, *values: object) -> object:
    marks = [pytest.mark.torch_sparse] if name == "torch_sparse" else []
    return pytest.param(name, *values, marks=marks)


each_backend = pytest.mark.parametrize("backend", [_marked(name) for name in MATRICES])
each_matrix = pytest.mark.parametrize(
    ("backend", "dtype"), [_marked(name, dtype) for name in MATRICES for dtype in MATRICES[name]]
)
each_product = pytest.mark.parametrize(
    ("backend", "dtype"), [_marked(name, dtype) for name in PRODUCTS for dtype in PRODUCTS[name]]
)

# -0.0, inf, quiet and signalling NaNs with a payload, and the smallest subnormal, as bits.
SPECIAL_BITS = {
    torch.float16: (0x8000, 0x7C00, 0xFC00, 0x7E01, 0x7C01, 1),
    torch.bfloat16: (0x8000, 0x7F80, 0xFF80, 0x7FC1, 0x7F81, 1),
    torch.float32: (0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 1),
    torch.float64: (
        0x8000000000000000,
        0x7FF0000000000000,
        0xFFF0000000000000,
        0x7FF8000000000001,
        0x7FF0000000000001,
        1,
    ),
}


def size(matrix: Any) -> torch.Size:
    """Rows and columns, however the library calls them."""
    return torch.Size(matrix.shape if hasattr(matrix, "shape") else matrix.sizes())


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.detach().contiguous().view(INTEGER[tensor.dtype]).flatten().tolist()


def without_negative_zero(tensor: torch.Tensor) -> torch.Tensor:
    return torch.where(tensor == 0, torch.zeros((), dtype=tensor.dtype), tensor)


@st.composite
def weights(draw: st.DrawFn, dtype: torch.dtype) -> torch.Tensor:
    """Any bit patterns in any shape and strides, from all zero over sparse to all dense."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=5))
    width = 8 * dtype.itemsize
    anything = st.integers(0, 2**width - 1)
    elements = draw(
        st.sampled_from(
            [
                st.just(0),
                st.one_of(st.just(0), st.sampled_from(SPECIAL_BITS[dtype]), anything),
                anything.filter(lambda value: value % 2 ** (width - 1) != 0),
            ]
        )
    )
    drawn = draw(hnp.arrays(np.dtype(f"uint{width}"), shape, elements=elements, fill=st.nothing()))
    weight = torch.from_numpy(drawn.view(np.dtype(f"int{width}"))).view(dtype)
    if draw(st.booleans()):
        weight = weight.movedim(0, -1)
    return weight


def random_weight(
    shape: tuple[int, ...], sparsity: float, dtype: torch.dtype = torch.float32, seed: int = 0
) -> torch.Tensor:
    """Normal numbers, of which about that share is zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (weight * (torch.rand(shape, generator=generator) >= sparsity)).to(dtype)


def rounding(terms: int, sizes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """How far a sum of so many products may be off in a dtype, in any order of summation.

    By gamma * (sum of the terms' magnitudes) with gamma = m u / (1 - m u), m = terms + 1 for a bias, u
    half the machine epsilon; and what underflows.

    Args:
        terms: How many products are summed.
        sizes: The sums of the magnitudes, the bias's among them, in float64.
        dtype: In which it is computed.
    """
    info = torch.finfo(dtype)
    roundings = (terms + 1) * info.eps / 2
    # Twice: for float64, the reference rounds alike.
    return 2 * (roundings / (1 - roundings) * sizes + terms * info.tiny)
