"""NaN, infinity and denormal numbers in linear layers."""

import numpy as np
import pytest

from tests.inference.native import linear

every_set = pytest.mark.parametrize("instruction_set", linear.SETS)


@every_set
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("zeros", [0.5, 0.9, 0.99])
def test_reaches_what_has_a_weight_to_it_and_nothing_else(instruction_set, special, batch, zeros):
    weight = linear.weights(60, 200, zeros)
    x = np.ones((batch, 200), np.float32)
    x[batch - 1, ::7] = special
    out = linear.call(linear.program(weight, instruction_set=instruction_set), x, 60)
    assert np.isfinite(out[: batch - 1]).all()
    touched = (weight[:, ::7] != 0).any(1)
    assert (np.isfinite(out[batch - 1]) == ~touched).all()


@every_set
@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("batch", [1, 64])
def test_reaches_everything_in_a_dense_layer(instruction_set, special, batch):
    """Zeros are multiplied there, as in torch."""
    weight = linear.weights(60, 200, 0.5)
    weight[:, 3] = 0
    x = np.ones((batch, 200), np.float32)
    x[0, 3] = special
    out = linear.call(linear.program(weight, None, "dense", "", instruction_set), x, 60)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1:]).all()


@every_set
@pytest.mark.parametrize("activation", linear.ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 64])
def test_activations_as_in_torch(instruction_set, activation, batch):
    numbers = np.array([np.nan, np.inf, -np.inf, 0, 1e-40, -1e-40, 1e30, -1e30], np.float32)
    x = np.tile(numbers[:, None], (batch, 1))
    one = np.ones((1, 1), np.float32)
    out = linear.call(linear.program(one, None, "sparse", activation, instruction_set), x, 1)
    wide = linear.expected(one, None, x, activation)
    np.testing.assert_allclose(out, wide, rtol=2e-6, atol=1e-38)


@every_set
@pytest.mark.parametrize("kernel", linear.KERNELS)
@pytest.mark.parametrize("batch", [1, 64])
def test_denormals_are_numbers(instruction_set, kernel, batch):
    weight = np.full((5, 40), 0.5, np.float32)
    x = np.full((batch, 40), 1e-40, np.float32)
    out = linear.call(linear.program(weight, None, kernel, "", instruction_set), x, 5)
    np.testing.assert_allclose(out, 2e-39, rtol=1e-4)  # 1e-40 has 17 bits
