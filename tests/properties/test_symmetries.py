"""What may be done to factors without changing the function, and what a step makes of it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.factors import factor_penalty, product
from dwf_optim.testing import (
    assert_same_function,
    assert_zero_is_absorbing,
    factors,
    gamma,
    weights,
)
from tests.helpers import BASES, Base, step_with

SHAPE = (3, 2)
DRAWN = factors(shape=SHAPE, dtype=torch.float64)
# For several steps of any rate: huge factors would end in NaN.
USUAL = st.lists(weights(SHAPE, torch.float64, extremes=False), min_size=2, max_size=8)
BACKENDS = st.sampled_from(["reference", "blocked"])
# Their steps of one tensor do not look at another's, and -f is stepped as the mirror image of f.
MIRRORED = st.sampled_from([base for base in BASES if base.name in {"SGD-momentum", "Adam", "RMSprop"}])


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(SHAPE[1], SHAPE[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def stepped(
    drawn: list[Tensor], grads: list[Tensor], base: Base, backend: str, penalty: float = 0.01
) -> tuple[Tensor, list[Tensor]]:
    """The weight and its factors after steps that start from given factors."""
    weight = Parameter(torch.ones(SHAPE, dtype=torch.float64))
    options = {"penalty": penalty, "depth": len(drawn), "lr_scale": 1.0, "flush": None, "fused": False}
    if not base.takes("fused"):
        options.pop("fused")
    optimizer = DWFOptimizer([weight], base=base.cls, backend=backend, **base.options, **options)
    for factor, value in zip(optimizer.factors(weight), drawn, strict=True):
        factor.copy_(value)
    with torch.no_grad():
        weight.copy_(product(drawn))
    for grad in grads:
        step_with(optimizer, {weight: grad})
    return weight.detach(), [factor.clone() for factor in optimizer.factors(weight)]


@given(data=st.data(), drawn=DRAWN)
def test_permuted_factors_are_the_same_function(data: st.DataObject, drawn: list[Tensor]) -> None:
    """f_1 ... f_D = f_s(1) ... f_s(D), to D - 1 roundings on either side."""
    order = data.draw(st.permutations(range(len(drawn))))
    inputs = data.draw(weights((2, SHAPE[1]), torch.float64, extremes=False))
    one, other = linear(product(drawn)), linear(product([drawn[i] for i in order]))
    assert_same_function(one, other, inputs, roundings=2 * (len(drawn) - 1))
    cost, again = factor_penalty(drawn), factor_penalty([drawn[i] for i in order])
    share = gamma(drawn[0].numel() * len(drawn) + 2, torch.float64)
    assert abs(float(cost - again)) <= 2 * share * float(cost)


@given(data=st.data(), drawn=USUAL, base=MIRRORED, backend=BACKENDS)
def test_joint_sign_flips_change_nothing_but_signs(
    data: st.DataObject, drawn: list[Tensor], base: Base, backend: str
) -> None:
    """prod s_d = 1: the product is the same to the bit, and a step of s_d f_d is s_d times that of f_d.

    The gradient by s_d f_d is s_d times that by f_d, for g prod_{e != d} s_e f_e is s_d times
    g prod_{e != d} f_e.
    """
    signs = data.draw(
        st.lists(st.sampled_from([1.0, -1.0]), min_size=len(drawn) - 1, max_size=len(drawn) - 1)
    )
    signs.append(float(torch.tensor(signs).prod()))
    flipped = [s * f for s, f in zip(signs, drawn, strict=True)]
    assert torch.equal(product(flipped), product(drawn))
    grads = [data.draw(weights(SHAPE, torch.float64, extremes=False)) for _ in range(3)]
    weight, after = stepped(drawn, grads, base, backend)
    same, mirrored = stepped(flipped, grads, base, backend)
    assert torch.equal(weight, same)
    for s, f, m in zip(signs, after, mirrored, strict=True):
        assert torch.equal(s * f, m)


@given(data=st.data(), drawn=USUAL, base=MIRRORED, backend=BACKENDS)
def test_a_flip_of_the_weight_and_of_its_gradients_is_mirrored(
    data: st.DataObject, drawn: list[Tensor], base: Base, backend: str
) -> None:
    """One factor's sign and the gradients': L(-w) steps the weight to minus what L(w) does."""
    d = data.draw(st.integers(0, len(drawn) - 1))
    grads = [data.draw(weights(SHAPE, torch.float64, extremes=False)) for _ in range(3)]
    flipped = [-f if e == d else f for e, f in enumerate(drawn)]
    weight, _ = stepped(drawn, grads, base, backend)
    mirrored, _ = stepped(flipped, [-grad for grad in grads], base, backend)
    assert torch.equal(weight, -mirrored)


@given(data=st.data(), drawn=DRAWN, backend=BACKENDS)
def test_a_step_of_permuted_factors_is_the_permuted_step(
    data: st.DataObject, drawn: list[Tensor], backend: str
) -> None:
    """SGD: f_d - eta (g prod_{e != d} f_e + (2 lambda/D) f_d), whichever place a factor has."""
    order = data.draw(st.permutations(range(len(drawn))))
    grad = data.draw(weights(SHAPE, torch.float64, extremes=False))
    base = next(base for base in BASES if base.name == "SGD")
    rate, depth, penalty = base.options["lr"], len(drawn), 0.01
    _, after = stepped(drawn, [grad], base, backend, penalty)
    _, permuted = stepped([drawn[i] for i in order], [grad], base, backend, penalty)
    for place, i in enumerate(order):
        rest = torch.stack([f for e, f in enumerate(drawn) if e != i]).prod(0)
        terms = drawn[i].abs() * (1 + rate * 2 * penalty / depth) + rate * (grad * rest).abs()
        # Either side: D + 5 roundings of the gradient, and two of the move.
        allowed = 2 * gamma(depth + 7, torch.float64) * terms
        assert bool(((permuted[place] - after[i]).abs() <= allowed).all())


@given(data=st.data(), drawn=DRAWN)
def test_rescaling_that_keeps_the_product_keeps_the_function_only(
    data: st.DataObject, drawn: list[Tensor]
) -> None:
    """c f_i, f_j / c with c a power of two: the same product to the bit, another penalty.

    f_i^2 c^2 + f_j^2 / c^2 >= 2 |f_i f_j|, what the same two cost when they are balanced.
    """
    i, j = data.draw(st.permutations(range(len(drawn))))[:2]
    scale = 2.0 ** data.draw(st.integers(-8, 8))
    scaled = list(drawn)
    scaled[i], scaled[j] = drawn[i] * scale, drawn[j] / scale
    assert torch.equal(product(scaled), product(drawn))
    pair = [drawn[i].double(), drawn[j].double()]
    least = factor_penalty([(pair[0] * pair[1]).abs().sqrt()] * 2)
    found = factor_penalty([scaled[i], scaled[j]])
    assert float(found) >= float(least) * (1 - gamma(32, torch.float64))


@given(data=st.data(), base=st.sampled_from(BASES))
def test_zero_is_absorbing_under_every_base(data: st.DataObject, base: Base) -> None:
    """Whatever the base does with moments and signs: all factors 0, their gradients 0, nothing moves."""
    start = data.draw(weights(SHAPE, extremes=False, zeros=False))
    mask = data.draw(st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda m: 0 < sum(m) < 6))
    weight = Parameter(start.masked_fill(torch.tensor(mask).view(SHAPE), 0.0))
    optimizer = DWFOptimizer([weight], base=base.cls, penalty=0.01, **base.options)
    grads = [data.draw(weights(SHAPE, extremes=False, zeros=False)) for _ in range(3)]
    rounds = iter(grads)
    assert_zero_is_absorbing(
        lambda: step_with(optimizer, {weight: next(rounds)}), [weight], steps=len(grads)
    )
