"""The chain rule through the product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dwf_optim.factors import factor_gradients
from dwf_optim.testing import assert_factor_gradients, depths, factors, penalties, weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(data=st.data(), depth=depths(smallest=1), penalty=penalties())
def test_gradients_are_those_of_the_penalized_loss(
    dtype: torch.dtype, data: st.DataObject, depth: int, penalty: float
) -> None:
    """d/df_d = g prod_{e != d} f_e + (2 lambda/D) f_d."""
    drawn = data.draw(factors(depth, dtype=dtype))
    upstream = data.draw(weights(tuple(drawn[0].shape), dtype))
    found = factor_gradients(drawn, upstream, penalty)
    assert_factor_gradients(found, drawn, upstream, penalty=penalty)
