"""One tensor through the codec, against what it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.artifact.codec import Encoded, decode, encode


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@st.composite
def sparse_tensors(draw):
    shape = [*draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)), draw(st.integers(1, 700))]
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    tensor = torch.zeros(shape, dtype=dtype)
    numel = tensor.numel()
    places = draw(st.lists(st.integers(0, numel - 1), max_size=40))
    numbers = st.sampled_from([1.0, -2.5, torch.inf, -torch.inf, torch.nan, 2.0**-24])
    for place in places:
        tensor.view(-1)[place] = draw(numbers)
    return tensor


@given(tensor=sparse_tensors())
def test_round_trip(tensor):
    found = decode(encode(tensor))
    assert (found.dtype, found.shape, bits(found)) == (tensor.dtype, tensor.shape, bits(tensor))


@given(tensor=sparse_tensors())
def test_it_never_takes_more_than_dense(tensor):
    assert encode(tensor).nbytes <= tensor.nbytes


def test_minus_zero_becomes_zero_where_zeros_are_left_out():
    tensor = torch.zeros(8, 9)
    tensor[2, 3], tensor[4, 4] = -0.0, 1.0
    encoded = encode(tensor)
    assert encoded.gaps is not None
    assert not torch.signbit(decode(encoded)).any()
    dense = torch.full((8, 9), -0.0)
    dense += torch.eye(8, 9) - torch.ones(8, 9)
    assert bits(decode(encode(dense))) == bits(dense)


BY_HAND = [
    ([0, 1, 2], 255, torch.uint8, [0, 0, 0]),
    ([254], 1000, torch.uint8, [254]),
    # 255 stands for 255 zeros and more to come.
    ([255], 1000, torch.uint8, [255, 0]),
    ([3, 259, 520], 1000, torch.uint8, [3, 255, 0, 255, 5]),
    ([256 * i for i in range(1, 9)], 4000, torch.uint8, [255, 1] + [255, 0] * 7),
    # In bytes they would take more than two each.
    ([2000, 4000, 6000, 9999], 10_000, torch.uint16, [2000, 1999, 1999, 3998]),
    ([131_070], 200_000, torch.uint32, [131_070]),
]


def by_hand(columns, width, kind, codes):
    return Encoded(
        (1, width),
        torch.ones(len(columns)),
        torch.tensor(codes, dtype=torch.int64).to(kind),
        torch.tensor([len(columns)], dtype=torch.uint8),
    )


@pytest.mark.parametrize(("columns", "width", "kind", "codes"), BY_HAND)
def test_gaps_by_hand(columns, width, kind, codes):
    row = torch.zeros(1, width)
    row[0, columns] = 1.0
    encoded = encode(row)
    assert (encoded.gaps.dtype, encoded.gaps.tolist()) == (kind, codes)
    assert torch.equal(decode(by_hand(columns, width, kind, codes)), row)


def test_gaps_of_another_width_than_the_shortest_are_read_too():
    row = torch.zeros(1, 200_000)
    row[0, 131_070] = 1.0
    assert torch.equal(decode(by_hand([0], 200_000, torch.uint16, [65_535, 65_535, 0])), row)


def test_rows_of_many_entries_have_wide_counts():
    tensor = torch.zeros(3, 4000)
    tensor[1, :300] = 1.0
    encoded = encode(tensor)
    assert (encoded.counts.dtype, encoded.counts.tolist()) == (torch.uint16, [0, 300, 0])
    assert torch.equal(decode(encoded), tensor)


@pytest.mark.parametrize(
    ("values", "gaps", "counts", "message"),
    [
        (2, [0, 1], [1, 1, 1], "rows add up to 3"),
        (2, [0, 1], [2], "of 1 rows"),
        (2, [0, 1], [2, 0, 0, 0], "of 4 rows"),
        (3, [0, 1], [1, 1, 0], "3 values"),
        (2, [0, 1, 1], [1, 1, 0], "3 gaps"),
        (2, [0, 1, 255], [1, 1, 0], "last gap"),
        (1, [9], [0, 1, 0], "column 9 is outside its 9"),
        (2, [8, 0], [2, 0, 0], "column 9 is outside its 9"),
        (1, [255, 0], [0, 0, 1], "column 255 is outside its 9"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(values, gaps, counts, message):
    encoded = Encoded(
        (3, 9),
        torch.ones(values),
        torch.tensor(gaps, dtype=torch.uint8),
        torch.tensor(counts, dtype=torch.uint8),
    )
    with pytest.raises(ValueError, match=message):
        decode(encoded)


def test_the_checksum_is_of_every_array():
    tensor = torch.zeros(4, 300)
    tensor[1, 2], tensor[3, 290] = 1.0, 2.0
    encoded = encode(tensor)
    sums = {encoded.checksum()}
    for array in encoded.arrays():
        raw = array.view(torch.uint8)
        raw[0] ^= 1
        sums.add(encoded.checksum())
        raw[0] ^= 1
    assert len(sums) == 4
