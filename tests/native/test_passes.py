"""The extension's passes around a base's own step, against float64 and against torch's operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer, _native
from dwf_optim.step import blocked, passes
from dwf_optim.storage.full import Full
from tests.helpers import identical, seeded
from tests.native.cases import extremes, lay_out
from tests.native.truth import LARGE, TINY, U

# One element, less than a register, a tile and a rest, and two threads' shares and a rest.
SIZES = (1, 7, 1030, 17001)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
every_depth = pytest.mark.parametrize("depth", range(2, 9))


@pytest.fixture(params=_native.instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(passes, "INSTRUCTION_SET", request.param)
    return request.param


def draw(depth: int, size: int, seed: int = 0) -> tuple[list[Tensor], Tensor, list[dict[str, Any]]]:
    """Factors, a gradient and a base's state, some weights being dead."""
    generator = seeded(seed + 100 * depth + size)
    factors = [extremes((size,), generator) for _ in range(depth)]
    for factor in factors:
        factor[::5] = 1e-40
        factor[1::11] = 0
    if size > 3:
        factors[0][3] = torch.nan
    states = [{"step": torch.tensor(3.0), "mean": torch.ones(size), "notes": 1} for _ in factors]
    return factors, extremes((size,), generator), states


@every_depth
@pytest.mark.parametrize("penalty", [0.0, 0.1, -0.1])
def test_gradients_are_within_their_bounds(depth: int, penalty: float, instruction_set: str) -> None:
    for size in SIZES:
        for dtype in DTYPES:
            factors, grad, _ = draw(depth, size)
            grad = grad.to(dtype)
            found = passes.Passes().gradients(factors, grad, grad, penalty, depth, None)
            exact, g = [factor.double() for factor in factors], grad.double()
            at_least_one = torch.stack([f.abs().clamp(min=1) for f in exact]).prod(0)
            reach = at_least_one * g.abs().clamp(min=1)
            for d in range(depth):
                others = torch.stack([g, *(f for e, f in enumerate(exact) if e != d)]).prod(0)
                decay = 2 * penalty / depth * exact[d]
                # depth - 1 multiplications; the decay's own rounding, its multiplication and the sum.
                # Each result below TINY loses up to TINY * U, times what it is multiplied with.
                error = (depth + 2) * U * (others.abs() + decay.abs()) + 2 * depth * TINY * U * reach
                right = (found[d].double() - (others + decay)).abs() <= error
                assert (right | ~(reach < LARGE)).all()  # NaN among them


@every_depth
def test_products_in_the_gradients_are_torchs(depth: int, instruction_set: str) -> None:
    for size in SIZES:
        factors, grad, _ = draw(depth, size)
        found = passes.Passes().gradients(factors, grad, grad, 0.0, depth, None)
        assert identical(found, Full().gradients(factors, grad, grad, 0.0, depth, None))


@every_depth
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flush", [True, False])
def test_what_follows_the_step_is_torchs(
    depth: int, dtype: torch.dtype, flush: bool, instruction_set: str
) -> None:
    for size in SIZES:
        runs = []
        for mode in (passes.Passes(), Full()):
            factors, _, states = draw(depth, size)
            weight = torch.full((size,), 7.0, dtype=dtype)
            mode.finish(factors, weight, depth, states, flush)
            runs.append([*factors, weight, *(state["mean"] for state in states)])
            assert all(float(state["step"]) == 3 and state["notes"] == 1 for state in states)
        assert identical(*runs)
        if flush and size > 10:
            assert not any(factor[5] for factor in runs[0][:depth])  # dead: 1e-40 in all factors


def test_threads_do_not_change_a_bit(instruction_set: str) -> None:
    runs = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            factors, grad, states = draw(3, 40001)
            weight = torch.empty_like(grad)
            found = passes.Passes().gradients(factors, weight, grad, 0.1, 3, None)
            passes.Passes().finish(factors, weight, 3, states, True)
        finally:
            torch.set_num_threads(1)
        runs.append([*found, *factors, weight, *(state["mean"] for state in states)])
    assert identical(runs[0], runs[1])
    assert identical(runs[0], runs[2])


@pytest.mark.parametrize("layout", ["transposed", "misaligned", "gaps", "float64", "mixed"])
def test_other_tensors_go_through_torch(layout: str) -> None:
    """What the extension takes and what it does not gives the same."""
    runs = []
    for mode in (passes.Passes(), Full()):
        factors, grad, states = draw(3, 1030)

        def shaped(values: Tensor, number: int) -> Tensor:
            values = values.view(10, 103)
            if layout == "float64":
                return values.double()
            kind = ("contiguous", "transposed")[number % 2] if layout == "mixed" else layout
            return lay_out(values, kind)

        factors = [shaped(factor, number) for number, factor in enumerate(factors)]
        grad, weight = shaped(grad, 0), shaped(torch.zeros(1030), 1)
        for number, state in enumerate(states):
            state["mean"] = shaped(state["mean"], number)
        found = mode.gradients(factors, weight, grad, 0.0, 3, None)
        mode.finish(factors, weight, 3, states, True)
        runs.append([*found, *factors, weight, *(state["mean"] for state in states)])
    assert identical(*runs)


def weights() -> list[Parameter]:
    """Of several blocks, of a part of one, in another order, in half precision."""
    values = [torch.randn(shape, generator=seeded(1)) * 0.5 for shape in ((50, 60), (3, 5), (40, 30))]
    return [
        *map(Parameter, values[:2]),
        Parameter(values[2].t()),
        Parameter(values[0].bfloat16()),
    ]


BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    "Adam": (torch.optim.Adam, {"amsgrad": True}),
    "RMSprop": (torch.optim.RMSprop, {"momentum": 0.5}),
    "RAdam": (torch.optim.RAdam, {"foreach": True}),
}


@pytest.mark.parametrize("name", BASES)
def test_any_base_steps_as_without_the_extension(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit at penalty 0, as all products are rounded alike."""
    base, options = BASES[name]
    runs = []
    for built in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(blocked, "BLOCK", 700)
            if not built:
                patch.setattr(passes, "_native", None)
            runs.append(run(base, options, penalty=0.0))
    assert identical(*runs)


@pytest.mark.parametrize("name", BASES)
def test_blocks_without_the_extension_step_as_the_reference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In torch alone: what an installation without a compiler has."""
    base, options = BASES[name]
    monkeypatch.setattr(blocked, "BLOCK", 700)
    monkeypatch.setattr(passes, "_native", None)
    # The same arithmetic with or without a kernel of one pass; its roundings may fall elsewhere.
    plain = {**options, "fused": False} if base in (torch.optim.SGD, torch.optim.Adam) else options
    left = run(base, plain, penalty=1e-2, backend="blocked")
    right = run(base, plain, penalty=1e-2, backend="reference")
    assert identical(left, right)


def run(base: Any, options: dict[str, Any], penalty: float, backend: str = "blocked") -> list[Tensor]:
    """Five steps; returns weights and state."""
    parameters, generator = weights(), seeded(3)
    optimizer = DWFOptimizer(
        parameters, lr=0.01, base=base, penalty=penalty, depth=3, backend=backend, **options
    )
    for _ in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()
    states = [value for p in parameters for value in optimizer.state[p].values()]
    return [*(p.detach() for p in parameters), *states]


def test_autograd_sees_that_a_weight_was_written() -> None:
    p = Parameter(torch.ones(40, 50))
    optimizer = DWFOptimizer([p], lr=0.1, penalty=0.0, base=torch.optim.RMSprop)
    loss = (p * p).sum()
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_decoupled_decay_is_not_the_penalty() -> None:
    """Adam with decoupled weight decay would shrink factors by the rate, whatever the gradient.

    From zero state one step moves a factor by lr, up to roundings.
    """
    ends = []
    for backend in ("blocked", "reference"):
        p = Parameter(torch.randn(20, 30, generator=seeded(0)))
        options = {"decoupled_weight_decay": True, "penalty": 0.5, "backend": backend}
        optimizer = DWFOptimizer([p], lr=0.01, base=torch.optim.Adam, **options)
        p.grad = torch.randn(20, 30, generator=seeded(1))
        optimizer.step()
        ends.append(p.detach().clone())
    assert torch.allclose(ends[0], ends[1], rtol=1e-5, atol=1e-6)
