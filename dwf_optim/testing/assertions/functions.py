"""Two ways to compute one function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dwf_optim.testing.counterexample import check_close
from dwf_optim.testing.rounding import gamma

Function = Callable[[Tensor], Tensor]
# An activation is off by a few u, which the numbers that it is multiplied with next may carry.
ACTIVATION = 4


def assert_same_function(f: Function, g: Function, inputs: Tensor, *, roundings: float = 0) -> None:
    r"""Assert that two modules or functions give the same outputs, but for rounding.

    For a model and its parametrized, converted or compiled twin; for a model before and after what must
    not change it. ``g`` may compute in another order than ``f``, and from parameters that are themselves
    rounded.

    Args:
        f: The reference: a module, or a function of one tensor. It is differentiated, so it should be
            small.
        g: What is held against it.
        inputs: A floating-point tensor that both take.
        roundings: How many roundings the parameters of ``g`` may be away from those of ``f``: for
            factors that roots have split, `dwf_optim.testing.roundings_of_split`.

    Raises:
        AssertionError: Naming the output that is farthest off.
        TypeError: If inputs are not floating-point.

    The bound is a condition number. Every sum of products in floating point is the exact sum for other
    numbers, each off by a share of at most :math:`\gamma_k` with ``k`` terms (backward stability;
    Higham, section 3.1). So the outputs of ``f`` are exact for parameters and inputs
    :math:`\theta_i (1 + \delta_i)`, :math:`|\delta_i| \le \gamma_{k+5}` (one for a bias, four for an
    activation), those of ``g`` likewise with its roundings on top, and to first order they differ by

    .. math::

        (\gamma_{k + 5} + \gamma_{k + 5 + \text{roundings}})
        \big( \textstyle\sum_i |\partial_{\theta_i} f\, \theta_i| + |f| \big)

    ``k`` is the largest number of elements that any row of a parameter, or the input, has. First order
    means: away from kinks, where a rounding may turn an activation on or off.
    """
    if not inputs.is_floating_point():
        raise TypeError(
            f"inputs must be a floating-point tensor, got {inputs.dtype}: pass embedded tokens"
        )
    inputs = inputs.detach()
    sensitivity, expected, terms = _sensitivity(f, inputs)
    with torch.no_grad():
        found = g(inputs)
    dtype = max((found.dtype, expected.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    own = terms + 1 + ACTIVATION
    share = gamma(own, dtype) + gamma(own + roundings, dtype)
    # Outputs below the smallest normal number may be flushed, as may each term.
    allowed = share * (sensitivity + expected.double().abs()) + terms * torch.finfo(dtype).tiny
    case = dict(f.named_parameters()) if isinstance(f, nn.Module) else {}
    check_close("the two functions differ", found, expected, allowed, {"inputs": inputs, **case})


def _sensitivity(f: Function, inputs: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return sum |df/dtheta theta| in float64, f itself, and the number of terms of its longest sum."""
    parameters = dict(f.named_parameters()) if isinstance(f, nn.Module) else {}
    values = {name: p.detach() for name, p in parameters.items()}

    def call(values: dict[str, Tensor], x: Tensor) -> Tensor:
        if isinstance(f, nn.Module):
            return torch.func.functional_call(f, values, (x,))  # type: ignore[no-any-return]
        return f(x)

    expected = call(values, inputs).detach()
    by_values, by_inputs = torch.func.jacrev(call, argnums=(0, 1))(values, inputs)
    total = torch.zeros(expected.shape, dtype=torch.float64)
    for jacobian, value in [(by_inputs, inputs), *((by_values[name], values[name]) for name in values)]:
        shares = jacobian.double() * value.double()
        total += shares.abs().reshape(*expected.shape, -1).sum(-1)
    rows = [value[0].numel() if value.ndim > 1 else value.numel() for value in values.values()]
    return total, expected, max([*rows, inputs[0].numel() if inputs.ndim > 1 else inputs.numel()])
