"""Whatever happens to gradients and states between steps, a step works on what is there then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from dwf_optim import DWFOptimizer
from dwf_optim.state import State
from tests.helpers import identical, seeded

# More than are read at a time.
COUNT = 21
Change = Callable[[DWFOptimizer, list[Parameter], int], None]


def make(base: type[torch.optim.Optimizer]) -> tuple[DWFOptimizer, list[Parameter]]:
    weights = [Parameter(torch.randn(3, 5, generator=seeded(i))) for i in range(COUNT)]
    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    return DWFOptimizer(weights, lr=0.01, base=base, penalty=1e-3, backend="native", **options), weights


def run(optimizer: DWFOptimizer, weights: list[Parameter], steps: range, change: Change) -> None:
    for step in steps:
        change(optimizer, weights, step)
        for i, p in enumerate(weights):
            p.grad = torch.randn(3, 5, generator=seeded(100 * step + i))
        optimizer.step()


def nothing(optimizer: DWFOptimizer, weights: list[Parameter], step: int) -> None:
    pass


def for_each_tensor(change: Callable[[Tensor], object]) -> Change:
    def changed(optimizer: DWFOptimizer, weights: list[Parameter], step: int) -> None:
        for p in weights:
            for value in optimizer.state.get(p, {}).values():
                change(value)

    return changed


def for_each_state(change: Callable[[State], State]) -> Change:
    def changed(optimizer: DWFOptimizer, weights: list[Parameter], step: int) -> None:
        for p in weights:
            if p in optimizer.state:
                optimizer.state[p] = change(optimizer.state[p])

    return changed


def move(tensor: Tensor) -> None:
    """Same object, other memory, and the old memory overwritten."""
    old = tensor.detach().clone()
    before = tensor.detach()
    tensor.set_(old.clone())
    before.fill_(float("nan"))


def grow_and_shrink(tensor: Tensor) -> None:
    shape, kept = tensor.shape, tensor.clone()
    tensor.resize_(10_000).fill_(7.0)
    tensor.resize_(shape).copy_(kept)


def reverse(optimizer: DWFOptimizer, weights: list[Parameter], step: int) -> None:
    """The states in another order than the parameters."""
    states = dict(optimizer.state)
    optimizer.state.clear()
    for p in reversed(states):
        optimizer.state[p] = states[p]


def some_keys_reversed(optimizer: DWFOptimizer, weights: list[Parameter], step: int) -> None:
    """And keys that are equal, not the same; in some states only."""
    for p in weights[step % 3 :: 3]:
        state = optimizer.state.get(p, {})
        items = [("".join(list(key)), value) for key, value in reversed(state.items())]
        state.clear()
        state.update(items)


CHANGES: dict[str, Change] = {
    "shared": for_each_tensor(lambda tensor: tensor.share_memory_()),
    "moved by set_": for_each_tensor(move),
    "moved by data": for_each_tensor(lambda tensor: setattr(tensor, "data", tensor.clone())),
    "resized": for_each_tensor(grow_and_shrink),
    "other tensors": for_each_state(lambda state: {k: v.clone() for k, v in state.items()}),
    "other order of memory": for_each_state(
        lambda state: {k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in state.items()}
    ),
    "states reversed": reverse,
    "some keys reversed": some_keys_reversed,
}


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_same_as_if_nothing_had_been(change: Change, base: type[torch.optim.Optimizer]) -> None:
    changed, untouched = make(base), make(base)
    run(*changed, range(6), change)
    run(*untouched, range(6), nothing)
    assert identical([p.detach() for p in changed[1]], [p.detach() for p in untouched[1]])


def test_one_wrong_tensor_among_many_is_not_overrun() -> None:
    """It is left to torch, which complains."""
    optimizer, weights = make(torch.optim.SGD)
    run(optimizer, weights, range(3), nothing)
    optimizer.state[weights[13]]["base.1.momentum_buffer"].resize_(1, 2)
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()


@pytest.mark.parametrize("frozen", [[0], [20], [3, 4, 5], list(range(0, 21, 2)), list(range(1, 21))])
def test_some_have_no_gradient(frozen: list[int]) -> None:
    """The others are stepped as by themselves; in a group of their own, after others, too."""
    (optimizer, weights), (other, alone) = make(torch.optim.SGD), make(torch.optim.SGD)
    extra = Parameter(torch.ones(2, 2))
    extra.grad = torch.ones(2, 2)
    optimizer.add_param_group({"params": [extra]})
    run(optimizer, weights, range(2), nothing)
    run(other, alone, range(2), nothing)
    before = [weights[i].detach().clone() for i in frozen]
    for p in (weights[i] for i in frozen):
        p.grad = None
    optimizer.step()
    other.step()
    assert identical([weights[i].detach() for i in frozen], before)
    stepped = [i for i in range(COUNT) if i not in frozen]
    assert identical([weights[i].detach() for i in stepped], [alone[i].detach() for i in stepped])
    assert torch.isfinite(extra).all()
