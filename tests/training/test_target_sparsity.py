"""The closed loop reaches what it is asked for, and resumes, warns and refuses as it should."""

from __future__ import annotations

import copy
import io
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from dwf_optim import DWFOptimizer
from dwf_optim.penalty import TargetSparsity
from tests.training.common import accuracy, network, nonzero, optimizer_of, train, weights

STEPS = 600


def left(sparsity: float, optimizer: DWFOptimizer) -> int:
    """What is asked for; zeros round up."""
    return math.floor((1 - sparsity) * weights(optimizer) + 1e-6)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("start", [1e-7, 1e-3])
def test_the_target_is_met_to_one_weight_from_any_start(sparsity: float, start: float) -> None:
    model = network()
    optimizer = optimizer_of(model, penalty=start)
    loop = TargetSparsity(optimizer, sparsity, STEPS)
    train(model, optimizer, STEPS, after_step=lambda loss: loop.step())
    assert nonzero(optimizer) == left(sparsity, optimizer)
    assert loop.current_sparsity() == 1 - nonzero(optimizer) / weights(optimizer)
    assert loop.reached_at == 0.75 * STEPS
    assert loop.get_last_penalty() == [0.0]


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_with_every_base_and_depth_the_network_still_works(
    base: type[torch.optim.Optimizer], depth: int
) -> None:
    """Far from chance: a tenth of the digits are guessed."""
    model = network()
    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    optimizer = DWFOptimizer(model.parameters(), base=base, penalty=1e-5, depth=depth, **options)
    loop = TargetSparsity(optimizer, 0.9, STEPS)
    train(model, optimizer, STEPS, after_step=lambda loss: loop.step())
    assert nonzero(optimizer) == left(0.9, optimizer)
    assert accuracy(model) > 0.8


def contrast_reached(asked: float) -> float:
    """Return the smallest weight that stays over the root mean square, shortly before the end."""
    model = network()
    optimizer = optimizer_of(model, penalty=1e-3)
    loop = TargetSparsity(optimizer, 0.8, STEPS, contrast=asked)
    train(model, optimizer, STEPS * 7 // 10, total=STEPS, after_step=lambda loss: loop.step())
    sizes = torch.cat([p.detach().abs().flatten() for p in optimizer.factorized()])
    stay = sizes[sizes > 0]
    return float(stay.min() / stay.square().mean().sqrt())


def test_the_penalty_is_steered_to_the_contrast_asked_for() -> None:
    assert contrast_reached(0.03) < 0.1 < contrast_reached(0.3)


def test_weights_that_were_removed_stay_removed() -> None:
    model = network()
    optimizer = optimizer_of(model)
    loop = TargetSparsity(optimizer, 0.9, STEPS)
    counts: list[int] = []

    def note(loss: float) -> None:
        loop.step()
        counts.append(nonzero(optimizer))

    train(model, optimizer, STEPS, after_step=note)
    assert counts[0] == weights(optimizer)
    assert counts[-1] == left(0.9, optimizer)
    assert counts == sorted(counts, reverse=True)


def test_units_and_layers_keep_what_they_are_to_keep_and_the_count_is_still_met() -> None:
    free, kept = network(), network()
    for model, floors in (
        (free, {}),
        (kept, {"min_nonzero_per_unit": {"0.weight": 2}, "min_density": {"2.weight": 0.15}}),
    ):
        optimizer = optimizer_of(model, named=True)
        loop = TargetSparsity(optimizer, 0.95, STEPS, **floors)
        train(model, optimizer, STEPS, after_step=lambda loss, loop=loop: loop.step())
        assert nonzero(optimizer) == left(0.95, optimizer)
    assert int((free[0].weight != 0).sum(1).min()) < 2
    assert int((kept[0].weight != 0).sum(1).min()) == 2
    assert int((free[2].weight != 0).sum()) < 150 == int((kept[2].weight != 0).sum())


def test_floors_that_leave_too_little_to_remove_are_refused_before_the_run() -> None:
    optimizer = optimizer_of(network(), named=True)
    with pytest.raises(ValueError, match=r"leaves 370 of 7400 .* keep 740: .* at most 0\.9,"):
        TargetSparsity(optimizer, 0.95, STEPS, min_density=0.1)
    with pytest.raises(ValueError, match=r"names \['head'\]"):
        TargetSparsity(optimizer, 0.95, STEPS, min_density={"head": 0.1})


def test_equal_weights_are_removed_by_position_so_that_the_count_is_met() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[2].weight.fill_(0.1)
    optimizer = optimizer_of(model, init="balanced")
    loop = TargetSparsity(optimizer, 0.9, 10, until=0.2)
    for _ in range(2):
        with pytest.warns(UserWarning, match="100%") if loop.last_step else nullcontext():
            loop.step()
    assert nonzero(optimizer) == left(0.9, optimizer)


def test_groups_keep_the_ratio_of_their_penalties() -> None:
    model = network()
    optimizer = DWFOptimizer(
        [{"params": [model[0].weight]}, {"params": [model[2].weight], "penalty": 4e-5}],
        lr=0.03,
        momentum=0.9,
        penalty=1e-5,
    )
    loop = TargetSparsity(optimizer, 0.9, STEPS)
    ratios: list[float] = []

    def note(loss: float) -> None:
        loop.step()
        first, second = loop.get_last_penalty()
        if first:
            ratios.append(second / first)

    train(model, optimizer, STEPS, after_step=note)
    assert ratios == pytest.approx([4.0] * len(ratios), rel=1e-9)
    assert nonzero(optimizer) == left(0.9, optimizer)


@pytest.mark.parametrize("stop", [200, 203, 550])  # at a look, between two, when the target is reached
def test_a_resumed_run_is_the_uninterrupted_one(stop: int) -> None:
    model = network()
    optimizer = optimizer_of(model)
    loop = TargetSparsity(optimizer, 0.9, STEPS)
    train(model, optimizer, stop, total=STEPS, after_step=lambda loss: loop.step())
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), loop.state_dict()], file)
    train(model, optimizer, STEPS, first=stop, total=STEPS, after_step=lambda loss: loop.step())

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network(5)
    resumed = optimizer_of(other)
    again = TargetSparsity(resumed, 0.9, STEPS)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    train(other, resumed, STEPS, first=stop, total=STEPS, after_step=lambda loss: again.step())
    assert again.state_dict() == loop.state_dict()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_run_without_the_budget_says_what_it_had_to_do() -> None:
    """Nothing sorts the weights: the rate is so low that no penalty moves them."""
    model = network()
    optimizer = optimizer_of(model, lr=1e-6, lr_scale=1.0)
    loop = TargetSparsity(optimizer, 0.9, 20)
    for step in range(20):
        for weight in (model[0].weight, model[2].weight):
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        if step == 14:
            with pytest.warns(UserWarning, match="removed weights of up to 9.% of the size"):
                loop.step()
        else:
            loop.step()
    assert nonzero(optimizer) == left(0.9, optimizer)
    with pytest.raises(ValueError, match="was to have 20 steps"):
        loop.step()


def test_a_diverged_run_is_left_to_the_user() -> None:
    model = network()
    optimizer = optimizer_of(model)
    loop = TargetSparsity(optimizer, 0.9, 100)
    model[0].weight.grad = torch.full_like(model[0].weight, torch.nan)
    optimizer.step()
    loop.step()
    assert loop.reached_at is None
    assert all(penalty > 0 for penalty in loop.get_last_penalty())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sparsity": 98.0}, "98 % is 0.98"),
        ({"sparsity": 0.0}, "between 0 and 1"),
        ({"total_steps": 3}, "at least 10, got 3"),
        ({"until": 0.1}, "above 0.1 and at most 1"),
        ({"contrast": 0.0}, "between 0 and 1"),
        ({"sparsity": 0.99999}, "leaves none of 7400 weights: at most 0.9998649"),
    ],
)
def test_numbers_out_of_range_are_named(options: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TargetSparsity(optimizer_of(network()), **{"sparsity": 0.9, "total_steps": 100, **options})


def test_what_cannot_become_sparse_is_refused() -> None:
    with pytest.raises(ValueError, match="depth >= 2"):
        TargetSparsity(optimizer_of(network(), depth=1), 0.9, 100)
    with pytest.raises(ValueError, match="group 0 has penalty 0"):
        TargetSparsity(optimizer_of(network(), penalty=0.0), 0.9, 100)
    with pytest.raises(TypeError, match="DWFOptimizer, got SGD"):
        TargetSparsity(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), 0.9, 100)


def test_a_group_of_biases_without_penalty_is_none_that_is_steered() -> None:
    model = network()
    biases = [model[0].bias, model[2].bias]
    groups = [{"params": [model[0].weight, model[2].weight]}, {"params": biases, "penalty": 0.0}]
    optimizer = DWFOptimizer(groups, lr=0.03, momentum=0.9, penalty=1e-5)
    loop = TargetSparsity(optimizer, 0.9, 30)
    train(model, optimizer, 30, after_step=lambda loss: loop.step())
    assert nonzero(optimizer) == left(0.9, optimizer)
    assert bool((torch.cat(biases) != 0).all())


def test_a_checkpoint_of_another_run_is_refused() -> None:
    loop = TargetSparsity(optimizer_of(network()), 0.9, 100)
    other = copy.deepcopy(loop.state_dict())
    other["sparsity"] = 0.5
    with pytest.raises(ValueError, match=r"sparsity 0.5, this one 0.9"):
        loop.load_state_dict(other)
    with pytest.raises(ValueError, match="no checkpoint of a TargetSparsity"):
        loop.load_state_dict({"last_step": 1})
