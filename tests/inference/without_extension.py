"""Compile and run models where there is no compiled extension; called by test_without_extension.py.

The arguments are folders to import from: first that of a copy of the package, without the extension.
"""

import copy
import io
import logging
import pickle
import sys

sys.path[:0] = sys.argv[1:]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

import inference  # noqa: E402
from inference import native  # noqa: E402

assert inference.__file__.startswith(sys.argv[1]), inference.__file__
assert not native.is_built()
assert native.instruction_sets() == ()

written = io.StringIO()
logging.getLogger("inference").addHandler(logging.StreamHandler(written))


def prune(model, sparsity):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(torch.rand(p.shape) >= sparsity)
    return model


def check(model, shape, kernels, **options):
    sparse = inference.compile(model, torch.randn(2, *shape), **options)
    for batch in (0, 1, 5):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            expected = copy.deepcopy(model).double()(x.double())
        out = torch.empty(expected.shape)
        made = (sparse(x), sparse(x, out=out), pickle.loads(pickle.dumps(sparse))(x))
        for found in (*made, torch.from_numpy(sparse(x.numpy()))):
            assert (found.double() - expected).norm() <= 1e-5 * expected.norm()
    for bad in (np.zeros((2, 3)), np.zeros((2, 3), np.float32)):
        try:
            sparse(bad)
        except (TypeError, ValueError):
            continue
        raise AssertionError("accepted")
    report = sparse.inspect(timing=True)
    assert {k for layer in report.layers for k in layer.kernels.values()} == kernels, str(report)
    assert sparse.plan.source == "static"
    assert sparse.origin.certificate.normwise < 1e-5


mlp = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 5))
check(prune(copy.deepcopy(mlp), 0.0), (30,), {"torch"})
# Without the dead units, the last layer has too few zeros left.
check(prune(copy.deepcopy(mlp), 0.95), (30,), {"torch csr", "torch"}, plan="static", threads=2)
images = nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 50))
check(prune(images, 0.95), (2, 8, 8), {"torch", "torch csr"})
assert written.getvalue().count("the compiled extension is not installed: models run in torch") == 1
