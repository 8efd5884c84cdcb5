"""Property tests of sparse optimizers and layers: is L2 on factors the penalty that you claim?

Strategies of `hypothesis` draw weights, factors and objectives; assertions hold your own code against
the laws of deep weight factorization, with bounds that are derived, not tuned, and show the
counter-example where a law is broken. None of them needs `DWFOptimizer`: they take plain tensors,
functions, modules with ``torch.nn.utils.parametrize``, and any optimizer.

Needs the extra ``testing``: ``pip install 'dwf-optim[testing]'``.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("dwf_optim.testing needs hypothesis: pip install 'dwf-optim[testing]'") from error

from dwf_optim.testing.assertions import (
    assert_balanced,
    assert_factor_gradients,
    assert_penalty_equivalent,
    assert_resume_exact,
    assert_same_function,
    assert_same_minimum,
    assert_zero_is_absorbing,
)
from dwf_optim.testing.objective import Objective
from dwf_optim.testing.rounding import gamma, roundings_of_split
from dwf_optim.testing.strategies import depths, factors, objectives, penalties, shapes, weights

__all__ = [
    "Objective",
    "assert_balanced",
    "assert_factor_gradients",
    "assert_penalty_equivalent",
    "assert_resume_exact",
    "assert_same_function",
    "assert_same_minimum",
    "assert_zero_is_absorbing",
    "depths",
    "factors",
    "gamma",
    "objectives",
    "penalties",
    "roundings_of_split",
    "shapes",
    "weights",
]
