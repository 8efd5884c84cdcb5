"""Assertions of the laws, one topic a file; each says how its bound is derived."""

from dwf_optim.testing.assertions.balance import assert_balanced
from dwf_optim.testing.assertions.functions import assert_same_function
from dwf_optim.testing.assertions.gradients import assert_factor_gradients
from dwf_optim.testing.assertions.minima import assert_same_minimum
from dwf_optim.testing.assertions.penalties import assert_penalty_equivalent
from dwf_optim.testing.assertions.resume import assert_resume_exact
from dwf_optim.testing.assertions.zeros import assert_zero_is_absorbing

__all__ = [
    "assert_balanced",
    "assert_factor_gradients",
    "assert_penalty_equivalent",
    "assert_resume_exact",
    "assert_same_function",
    "assert_same_minimum",
    "assert_zero_is_absorbing",
]
