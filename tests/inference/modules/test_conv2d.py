"""`SparseConv2d` computes what the dense layer does, in every option of `torch.nn.Conv2d`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from inference import SparseConv2d
from tests.inference.formats.common import each_backend, each_product
from tests.inference.modules.common import assert_within, reference_and_bound, sparse_conv

pairs = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of Conv2d that fit together."""
    groups = draw(st.integers(1, 3))
    padding = draw(st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    stride = draw(pairs)
    if stride in (1, (1, 1)) and draw(st.booleans()):
        padding = draw(st.sampled_from(["same", "valid"]))
    return {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": draw(pairs),
        "stride": stride,
        "padding": padding,
        "dilation": draw(st.one_of(st.just(1), st.integers(1, 2), st.tuples(st.just(2), st.just(1)))),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    }


@each_product
@given(
    options=options(),
    batch=st.sampled_from([None, 0, 1, 3]),
    size=st.tuples(st.integers(5, 7), st.integers(5, 7)),
    sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_dense_layer(
    backend: str,
    dtype: torch.dtype,
    options: dict[str, Any],
    batch: int | None,
    size: tuple[int, int],
    sparsity: float,
    seed: int,
) -> None:
    # torch pads nothing by other numbers than zeros where there is nothing.
    assume(batch != 0 or options["padding_mode"] == "zeros")
    dense = sparse_conv(**options, sparsity=sparsity, dtype=dtype, seed=seed)
    lead = () if batch is None else (batch,)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, options["in_channels"], *size, generator=generator).to(dtype)
    result = SparseConv2d.from_conv(dense, backend)(x)
    assert result.dtype == dtype
    assert result.is_contiguous()
    assert_within(result, *reference_and_bound(dense, x))


@each_backend
def test_worked_by_hand(backend: str) -> None:
    dense = nn.Conv2d(1, 1, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]]]))
        dense.bias.fill_(0.5)
    sparse = SparseConv2d.from_conv(dense, backend)
    image = torch.tensor([[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]])
    assert sparse(image).tolist() == [[[-14.5, -29.5]]]
    assert sparse(image[None]).tolist() == [[[[-14.5, -29.5]]]]
    assert torch.equal(sparse.weight, dense.weight)
    assert sparse.columns.tolist() == [0, 3]


def test_images_in_any_memory_format() -> None:
    sparse = SparseConv2d.from_conv(sparse_conv(2, 3, 2))
    x = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sparse(x.contiguous(memory_format=torch.channels_last)), sparse(x))


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"in_channels": 4, "groups": 2},
        {"groups": 0},
        {"padding": "full"},
        {"padding": "same", "stride": 2},
        {"padding_mode": "mirror"},
    ],
)
def test_options_are_refused_as_by_torch(options: dict[str, Any]) -> None:
    options = {"in_channels": 3, "out_channels": 3, "kernel_size": 2, **options}
    with pytest.raises(ValueError) as theirs:  # noqa: PT011  # its text is the test's subject
        nn.Conv2d(**options)
    with pytest.raises(ValueError) as ours:  # noqa: PT011
        SparseConv2d(**options)
    assert str(ours.value) == str(theirs.value)


def test_constructed_it_is_torchs_with_zero_weights() -> None:
    options: dict[str, Any] = {"stride": (2, 1), "padding": 1, "groups": 2, "dtype": torch.float64}
    sparse, dense = SparseConv2d(4, 6, (3, 2), **options), sparse_conv(4, 6, (3, 2), **options)
    x = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(sparse(x), torch.zeros(dense(x).shape, dtype=torch.float64))
    sparse.load_state_dict(dense.state_dict())
    assert_within(sparse(x), *reference_and_bound(dense, x))


class Doubled(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_bad_layers() -> None:
    for module in (nn.Linear(2, 2), Doubled(1, 1, 1), nn.Conv1d(1, 1, 1), torch.ones(1, 1, 1, 1)):
        with pytest.raises(
            TypeError, match=rf"expected a torch\.nn\.Conv2d, got {type(module).__name__}"
        ):
            SparseConv2d.from_conv(module)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown backend 'mkl'"):
        SparseConv2d.from_conv(nn.Conv2d(1, 1, 1), "mkl")


@each_backend
def test_bad_inputs(backend: str) -> None:
    sparse = SparseConv2d.from_conv(sparse_conv(2, 3, (3, 2), dilation=(2, 1), padding=(1, 0)), backend)
    for shape in ((1, 3, 8, 8), (8, 8), (1, 1, 2, 8, 8), (2,), ()):
        with pytest.raises(ValueError, match=r"must be \[batch, 2, height, width\] .*got \("):
            sparse(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\(4, 8\) with its padding, too small for .*\(3, 2\)"):
        sparse(torch.zeros(1, 2, 2, 8))
    with pytest.raises(TypeError, match=r"input is torch\.float64 on cpu"):
        sparse(torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="computes no gradients"):
        sparse(torch.zeros(1, 2, 8, 8, requires_grad=True))
