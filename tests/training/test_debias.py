"""The debias phase, as one call and as a scheduler: support fixed, penalty off, exact resume."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dwf_optim import DWFOptimizer, debias, sparsify
from dwf_optim.penalty import Debias, PenaltyWarmup
from tests.training.common import digits, network, nonzero, optimizer_of, train, weights


def supports(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach() != 0 for p in model.parameters() if p.ndim == 2]


def test_it_switches_the_penalty_off_and_keeps_the_support() -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    train(model, optimizer, 100)
    sparsify(model, optimizer, sparsity=0.9)
    support = supports(model)
    debias(optimizer)
    train(model, optimizer, 200)
    assert [group["penalty"] for group in optimizer.param_groups] == [0.0]
    assert all(map(torch.equal, support, supports(model)))


def test_zeros_that_somebody_else_made_stay_too() -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    train(model, optimizer, 50)
    sparsify(model, sparsity=0.9)  # the optimizer is not told
    debias(optimizer)
    for parameter in optimizer.factorized():
        for factor in optimizer.factors(parameter):
            assert torch.equal(factor == 0, parameter == 0)
    train(model, optimizer, 100)
    assert nonzero(optimizer) == weights(optimizer) // 10


def test_the_survivors_are_free_of_shrinkage() -> None:
    """On one weight of a quadratic the penalized minimum is off; debiased, it is the true one.

    L1 (depth 2) of 0.1 moves the minimum of (w - 1)^2 / 2 to 0.9.
    """
    weight = nn.Parameter(torch.tensor([[1.0, 0.0]]))
    optimizer = DWFOptimizer([weight], lr=0.1, penalty=0.1, depth=2, lr_scale=1.0)

    def descend(steps: int) -> float:
        for _ in range(steps):
            weight.grad = weight.detach() - 1
            optimizer.step()
        return weight[0, 0].item()

    assert descend(400) == pytest.approx(0.9, abs=1e-5)
    debias(optimizer)
    assert descend(400) == pytest.approx(1.0, abs=1e-5)
    assert weight[0, 1].item() == 0.0


def test_a_debiased_run_resumes_from_the_optimizers_checkpoint_alone() -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    train(model, optimizer, 50)
    sparsify(model, optimizer, sparsity=0.9)
    debias(optimizer)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, 80, first=50)

    other = network(5)
    resumed = optimizer_of(other, penalty=1e-3)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    train(other, resumed, 80, first=50)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_phase_is_the_same_as_the_calls_by_hand() -> None:
    by_hand, scheduled = network(), network()
    first, second = optimizer_of(by_hand, penalty=1e-3), optimizer_of(scheduled, penalty=1e-3)
    train(by_hand, first, 60, total=100)
    sparsify(by_hand, first, sparsity=0.9)
    debias(first)
    train(by_hand, first, 100, first=60, total=100)
    phase = Debias(second, start=60, sparsity=0.9)
    train(scheduled, second, 100, after_step=lambda loss: phase.step())
    for p, q in zip(by_hand.parameters(), scheduled.parameters(), strict=True):
        assert torch.equal(p, q)


def test_before_its_start_the_phase_leaves_the_penalty_to_others() -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    warmup, phase = PenaltyWarmup(optimizer, 4), Debias(optimizer, start=6, sparsity=0.5)
    inputs, labels = digits()
    seen = []
    for _ in range(8):
        seen.append(phase.get_last_penalty()[0])
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        warmup.step()
        phase.step()
    assert seen == pytest.approx([0.0, 2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 0.0, 0.0], rel=1e-12)


@pytest.mark.parametrize("stop", [30, 80])  # before and in the phase
def test_a_resumed_phase_is_the_uninterrupted_one(stop: int) -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    phase = Debias(optimizer, start=60, sparsity=0.9)
    train(model, optimizer, stop, total=100, after_step=lambda loss: phase.step())
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), phase.state_dict()))
    train(model, optimizer, 100, first=stop, after_step=lambda loss: phase.step())

    other = network(5)
    resumed = optimizer_of(other, penalty=1e-3)
    again = Debias(resumed, start=60, sparsity=0.9)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    train(other, resumed, 100, first=stop, after_step=lambda loss: again.step())
    assert nonzero(resumed) == weights(resumed) // 10
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_what_cannot_be_debiased_is_refused() -> None:
    optimizer = optimizer_of(network())
    with pytest.raises(ValueError, match="no factorized weight is zero"):
        debias(optimizer)
    assert [group["penalty"] for group in optimizer.param_groups] == [1e-5]
    with pytest.raises(TypeError, match="DWFOptimizer, got SGD"):
        debias(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
    with pytest.raises(ValueError, match="start must be at least 1, got 0"):
        Debias(optimizer, 0, 0.9)
    with pytest.raises(ValueError, match=r"98 % is 0\.98"):
        Debias(optimizer, 5, 98.0)
    with pytest.raises(ValueError, match="depth >= 2"):
        Debias(optimizer_of(network(), depth=1), 5, 0.9)
    with pytest.raises(ValueError, match="start 5, this one 6"):
        Debias(optimizer, 6, 0.9).load_state_dict(Debias(optimizer, 5, 0.9).state_dict())
