"""Our files against those of torch's own exporter, and the comparison of all ways."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.networks import NETWORKS, lenet_300_100, prune_
from inference.onnx import compare, make_onnx
from tests.inference.onnx.running import TOLERANCE, draw, run


@pytest.mark.parametrize("name", ["lenet_5", "mobilenet", "transformer_encoder"])
def test_the_same_as_torchs_exporter(name):
    build, shape = NETWORKS[name]
    model = build(0)
    (x,) = draw([shape], 3)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that needs no onnxscript is deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
        )
    theirs = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})[0]
    ours = run(make_onnx(model, x, "dense"), [x])[0]
    assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs)


def test_all_ways_are_compared():
    model = prune_(lenet_300_100(0), 0.98)
    example = torch.randn(2, 784)
    rows = compare(model, example, batch_sizes=(1, 5), seconds=0.0)
    assert [row.name for row in rows] == ["dense", "compact", "sparse", "custom-op", "engine"]
    for row in rows:
        assert row.error <= TOLERANCE
        assert sorted(row.microseconds) == [1, 5]
        assert all(taken > 0 for taken in row.microseconds.values())
        if row.name == "engine":
            assert row.bytes is None
        else:
            assert row.bytes == make_onnx(model, example, row.name).ByteSize()


def test_some_ways_are_compared():
    model = prune_(lenet_300_100(0), 0.98)
    rows = compare(model, torch.randn(2, 784), ways=("engine", "compact"), batch_sizes=(3,), seconds=0.0)
    assert [row.name for row in rows] == ["engine", "compact"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": ("fast",)}, r"unknown ways \['fast'\]"),
        ({"batch_sizes": ()}, "batch sizes must be 1 and more"),
        ({"batch_sizes": (0,)}, "batch sizes must be 1 and more"),
    ],
)
def test_comparisons_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        compare(lenet_300_100(0), torch.zeros(1, 784), **options)
