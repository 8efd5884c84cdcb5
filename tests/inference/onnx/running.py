"""What the tests of exports share: a model in float64, and a file in onnxruntime."""

from __future__ import annotations

import torch

from inference.onnx import session

TOLERANCE = 1e-5  # The project's promise, of the norm of each output.
KINDS = ("dense", "compact", "sparse", "custom-op")


def in_float64(model, inputs):
    """Compute a model's outputs in float64; the model is changed."""
    model.double()
    with torch.no_grad():
        made = model(*(x.double() if x.is_floating_point() else x for x in inputs))
    return [made] if isinstance(made, torch.Tensor) else list(made)


def run(proto, inputs, **options):
    """Run a model in onnxruntime."""
    return feed(session(proto, **options), inputs)


def feed(opened, inputs):
    """Run an open session."""
    names = [each.name for each in opened.get_inputs()]
    return opened.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})


def assert_close(found, expected):
    assert len(found) == len(expected)
    for array, right in zip(found, expected, strict=True):
        assert array.shape == tuple(right.shape)
        difference = torch.from_numpy(array).double() - right
        assert difference.norm() <= TOLERANCE * right.norm()


def draw(shapes, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *shape, generator=generator) for shape in shapes]
