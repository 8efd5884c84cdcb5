"""Files without zeros: their size, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.networks import lenet_300_100, prune_
from inference.onnx import make_onnx
from inference.onnx.sparse import index_bytes, is_smaller, to_sparse
from tests.inference.onnx.running import draw, run


@pytest.mark.parametrize("compression", [50, 100])
def test_a_tenth_of_the_dense_file(compression):
    model = prune_(lenet_300_100(0), 1 - 1 / compression)
    x = torch.zeros(1, 784)
    sizes = {kind: make_onnx(model, x, kind).ByteSize() for kind in ("dense", "sparse")}
    assert sizes["sparse"] <= sizes["dense"] / 10


def test_the_same_bits_as_compact():
    model = prune_(lenet_300_100(0), 0.98)
    (x,) = draw([(784,)], 64)
    compact, sparse = (run(make_onnx(model, x, kind), [x])[0] for kind in ("compact", "sparse"))
    np.testing.assert_array_equal(compact, sparse)


def test_a_dense_model_is_stored_as_it_is():
    proto = make_onnx(lenet_300_100(0), torch.zeros(1, 784), "sparse")
    assert not proto.graph.sparse_initializer
    assert len(proto.graph.initializer) == 6


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1,), (300,), (20, 30), (4, 3, 5, 5), (200, 300)]),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
)
def test_entries_that_are_not_zero_come_back(seed, shape, zeros):
    random = np.random.default_rng(seed)
    data = random.standard_normal(shape).astype(np.float32)
    data[random.random(shape) < zeros] = 0
    stored = onnx.SparseTensorProto.FromString(to_sparse("w", data).SerializeToString())
    onnx.checker.check_sparse_tensor(stored)
    dense = np.zeros(data.size, np.float32)
    dense[list(stored.indices.int64_data)] = onnx.numpy_helper.to_array(stored.values)
    np.testing.assert_array_equal(dense.reshape(stored.dims), data)
    if is_smaller(data):
        assert stored.ByteSize() < onnx.numpy_helper.from_array(data, "w").ByteSize()


@given(st.lists(st.integers(0, 2**40), max_size=50))
def test_bytes_of_indices_are_those_of_protobuf(numbers):
    indices = np.array(sorted(numbers), np.int64)
    tensor = onnx.TensorProto(int64_data=indices.tolist())
    # A tag and the length, of one or two bytes, come in front.
    assert tensor.ByteSize() - index_bytes(indices) in ((2, 3) if numbers else (0,))
