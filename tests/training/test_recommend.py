"""What `recommend` returns works as it says, and leaves everything as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer, Recommendation, param_groups, recommend
from dwf_optim.recommend.law import FIRST_DECAY
from tests.training.common import accuracy, digits, network, nonzero, optimizer_of, weights

BATCH = 64
# Two rates and short trials, where what is found is not the question.
QUICK: dict[str, Any] = {"rates": [0.01, 0.03], "trial_steps": 20}


def loader(**options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*digits()), BATCH, shuffle=True, **options)


def batch_list(count: int = 8) -> list[tuple[Tensor, Tensor]]:
    inputs, labels = digits()
    return list(
        zip(inputs[: count * BATCH].split(BATCH), labels[: count * BATCH].split(BATCH), strict=True)
    )


class Restless(nn.Module):
    """Has all that a trial moves: weights, BatchNorm's buffers, dropout, a buffer that is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
        )
        self.frozen = nn.BatchNorm1d(64)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + random.random() + np.random.rand()  # noqa: NPY002 - as users' code does
        return self.body(self.frozen(x))


def everything(model: nn.Module, own: torch.Generator) -> list[Any]:
    """All that has to be as before; tensors cloned, and beside them what holds them."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [tensor.clone() for tensor in tensors],
        [id(tensor) for tensor in tensors],
        [tensor.data_ptr() for tensor in tensors],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [id(p.grad) for p in model.parameters() if p.grad is not None],
        [module.training for module in model.modules()],
        torch.get_rng_state(),
        own.get_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was_to_the_bit(training: bool, fails: bool) -> None:
    torch.manual_seed(3)
    model, own = Restless().train(training), torch.Generator().manual_seed(5)
    model.frozen.eval()
    inputs, labels = digits()
    F.cross_entropy(model(inputs[:8]), labels[:8]).backward()
    model.body[0].bias.grad = None
    before = everything(model, own)
    calls = 0

    def loss(output: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if fails and calls == 30:
            raise RuntimeError("the user's own")
        # What was training stays in its own modes; what was not is trained all the same.
        assert model.body[1].training
        assert model.frozen.training is not training
        return F.cross_entropy(output, targets)

    batches = loader(generator=own)
    if fails:
        with pytest.raises(RuntimeError, match="the user's own"):
            recommend(model, batches, loss, **QUICK)
    else:
        recommend(model, batches, loss, **QUICK)
    assert calls >= 30
    assert same(everything(model, own), before)


def test_the_first_penalty_goes_by_the_scale_that_the_steps_have() -> None:
    """Steps of weights that share gates are not scaled, so that alone momentum lengthens them."""
    advice = recommend(network(), batch_list(), F.cross_entropy, structure="neuron", **QUICK)
    decays = [2 * t.penalty * t.travelled / (1 - 0.9) for t in advice.curves["penalty"]]
    assert pytest.approx(FIRST_DECAY) in decays


def test_a_running_optimizer_does_not_notice() -> None:
    """The run goes on as one in which nobody asked, factors and momentum included."""
    inputs, labels = digits()
    ends = []
    for asks in (False, True):
        model = network()
        optimizer = optimizer_of(model)
        for step in range(6):
            if asks and step == 3:
                recommend(model, batch_list(), F.cross_entropy, **QUICK)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[:BATCH]), labels[:BATCH]).backward()
            optimizer.step()
        ends.append(
            [*model.parameters(), *(f for p in optimizer.factorized() for f in optimizer.factors(p))]
        )
    assert same(ends[0], ends[1])


def test_the_same_question_has_the_same_answer() -> None:
    answers = []
    for _ in range(2):
        torch.manual_seed(1)
        answers.append(recommend(network(), loader(), F.cross_entropy, **QUICK))
    assert answers[0].report() == answers[1].report()
    assert answers[0].curves == answers[1].curves


def run(
    advice: Recommendation, model: nn.Module, params: Any = None
) -> tuple[DWFOptimizer, list[float]]:
    """Train by the advice; returns the optimizer and its rates."""
    optimizer = DWFOptimizer(model.parameters() if params is None else params, **advice.options)
    scheduler = advice.scheduler(optimizer)
    inputs, labels = digits()
    rates = []
    for step in range(advice.steps):
        rows = torch.randint(len(inputs), (BATCH,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return optimizer, rates


@pytest.mark.slow
def test_the_advice_taken_as_it_comes_trains_to_the_target() -> None:
    torch.manual_seed(0)
    model = network()
    advice = recommend(model, loader(), F.cross_entropy, target=0.9)
    optimizer, rates = run(advice, model)
    assert nonzero(optimizer) <= 0.1 * weights(optimizer) * 1.1
    # On what it was trained on; chance is a tenth, and dense training comes to 1.
    assert accuracy(model) > 0.9
    assert max(rates) <= advice.lr
    assert rates[0] == pytest.approx(0.1 * advice.lr)
    assert rates[-1] < 0.01 * advice.lr
    report = advice.report()
    for value in (f"{advice.lr:g}", f"{advice.penalty:.2g}", str(advice.steps)):
        assert value in report


def test_a_schedule_goes_on_where_it_stood() -> None:
    advice = recommend(network(), batch_list(), F.cross_entropy, steps=400, **QUICK)
    inputs, labels = digits()

    def go_on(model: nn.Module, optimizer: DWFOptimizer, scheduler: Any, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[:BATCH]), labels[:BATCH]).backward()
            optimizer.step()
            scheduler.step()

    runs = []
    for _ in range(2):
        model = network()
        optimizer = DWFOptimizer(model.parameters(), **advice.options)
        runs.append((model, optimizer, advice.scheduler(optimizer)))
    go_on(*runs[0], 7)
    for saved, resumed in zip(*runs, strict=True):
        resumed.load_state_dict(saved.state_dict())
    for parts in runs:
        go_on(*parts, 5)
    (model, optimizer, scheduler), (twin, again, other) = runs
    assert same(list(model.parameters()), list(twin.parameters()))
    assert optimizer.param_groups[0]["penalty"] == again.param_groups[0]["penalty"]
    assert optimizer.param_groups[0]["lr"] == again.param_groups[0]["lr"]
    assert other.state_dict() == scheduler.state_dict()
    with pytest.raises(ValueError, match="no checkpoint of a RunSchedule"):
        other.load_state_dict(scheduler.sparsity.state_dict())
    longer = recommend(network(), batch_list(), F.cross_entropy, steps=500, **QUICK).scheduler(again)
    with pytest.raises(ValueError, match=r"the checkpoint has total_steps 400, this one 500"):
        longer.load_state_dict(scheduler.state_dict())


def test_the_penalties_of_groups_keep_their_ratio() -> None:
    model = network()
    groups = [
        {"params": [model[0].weight], "penalty": 1e-4},
        {"params": iter([model[2].weight]), "penalty": 3e-4},
        {"params": [model[0].bias, model[2].bias], "depth": 1, "penalty": 0.0},
    ]
    given = [{**group, "params": list(group["params"])} for group in groups]
    groups[1]["params"] = iter(given[1]["params"])
    advice = recommend(model, batch_list(), F.cross_entropy, params=groups, **QUICK)
    optimizer = DWFOptimizer(given, **advice.options)
    advice.scheduler(optimizer)
    first, second, third = (group["penalty"] for group in optimizer.param_groups)
    assert second / first == pytest.approx(3)
    assert third == 0
    sizes = [p.numel() for p in optimizer.factorized()]
    assert (sizes[0] * first + sizes[1] * second) / sum(sizes) == pytest.approx(advice.penalty)


def test_groups_by_module_type_are_taken() -> None:
    model = network()
    groups = param_groups(model, penalty=1e-4, exclude=["2.weight"])
    advice = recommend(model, batch_list(), F.cross_entropy, params=groups, **QUICK)
    assert advice.penalty > 0


def test_adam_has_its_own_window_and_no_law() -> None:
    advice = recommend(
        network(),
        batch_list(),
        F.cross_entropy,
        base=torch.optim.Adam,
        rates=[1e-3, 3e-3],
        trial_steps=20,
    )
    assert advice.lr in (1e-3, 3e-3)
    assert "momentum" not in advice.options
    optimizer = DWFOptimizer(network().parameters(), **advice.options)
    assert optimizer.base is torch.optim.Adam
    default = recommend(network(), batch_list(), F.cross_entropy, base=torch.optim.Adam, trial_steps=20)
    assert 1e-4 <= default.lr <= 0.03


@pytest.mark.parametrize("kind", ["short list", "long iterator"])
def test_loaders_that_suffice(kind: str) -> None:
    """Three batches begin again as often as needed; a long iterator has enough."""
    batches: Any = batch_list(3) if kind == "short list" else (batch_list(1)[0] for _ in range(1000))
    assert recommend(network(), batches, F.cross_entropy, **QUICK).steps > 0


def test_loaders_that_run_out() -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(
        ValueError, match=r"ran out after 5 batches .* generator can be gone through once"
    ):
        recommend(model, (batch for batch in batch_list(5)), F.cross_entropy, **QUICK)
    with pytest.raises(ValueError, match="gives no batch"):
        recommend(model, [], F.cross_entropy, **QUICK)
    with pytest.raises(TypeError, match="in a for loop, got int"):
        recommend(model, 5, F.cross_entropy, **QUICK)  # type: ignore[arg-type]
    assert same(list(model.parameters()), before)


def test_other_batches_come_with_a_function_of_their_own() -> None:
    inputs, labels = digits()
    batches = [{"x": inputs[:BATCH], "y": labels[:BATCH]}]

    def forward(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["x"]), batch["y"])

    assert recommend(network(), batches, None, forward=forward, **QUICK).lr in QUICK["rates"]
    with pytest.raises(TypeError, match="give loss_fn, or forward"):
        recommend(network(), batches, None, **QUICK)
    with pytest.raises(TypeError, match=r"must be \(inputs, targets\), got dict"):
        recommend(network(), batches, F.cross_entropy, **QUICK)


def test_too_few_steps_for_the_target_are_told_with_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"10 steps are too few: .* Take \d+ steps"):
        recommend(network(), batch_list(), F.cross_entropy, steps=10, rates=[0.03], trial_steps=30)
    enough = recommend(
        network(), batch_list(), F.cross_entropy, steps=10**6, rates=[0.03], trial_steps=30
    )
    found = recommend(network(), batch_list(), F.cross_entropy, rates=[0.03], trial_steps=30)
    assert enough.steps == 10**6
    # In so much longer a run, so much less penalty; the steps found are rounded up, to two digits.
    assert enough.penalty * 1e6 == pytest.approx(found.penalty * found.steps, rel=0.1)
    assert enough.penalty * 1e6 <= found.penalty * found.steps


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"target": 95}, ValueError, "98 % is 0.98"),
        ({"target": 0.0}, ValueError, "between 0 and 1"),
        ({"target": 0.9999}, ValueError, "leaves none of 7400 weights: at most 0.9998649"),
        ({"depth": 1}, ValueError, "depth 1 makes no zeros"),
        ({"steps": 3}, ValueError, "steps must be at least 10, got 3"),
        ({"trial_steps": 5}, ValueError, "trial_steps must be at least 20, got 5"),
        ({"penalty": 1e-3}, TypeError, "recommend finds penalty"),
        ({"min_ndim": 3}, ValueError, "no tensor is factorized"),
        ({"momentun": 0.9}, TypeError, "momentun"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        recommend(network(), batch_list(), F.cross_entropy, **{**QUICK, **options})


def test_losses_that_cannot_be() -> None:
    def each(output: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(output, targets, reduction="none")

    with pytest.raises(TypeError, match=r"one element, got shape \(64,\); average it"):
        recommend(network(), batch_list(), each, **QUICK)
    with pytest.raises(TypeError, match="one element, got float"):
        recommend(network(), batch_list(), lambda output, targets: 1.0, **QUICK)  # type: ignore[arg-type]
    broken = network()
    with torch.no_grad():
        broken[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the loss is nan before any step"):
        recommend(broken, batch_list(), F.cross_entropy, **QUICK)
    with pytest.raises(ValueError, match=r"fell in none of the trials of 20 steps \(lr 100\)"):
        recommend(network(), batch_list(), F.cross_entropy, rates=[100.0], trial_steps=20)
    group = {"params": list(network().parameters()), "lr": 0.1}
    with pytest.raises(ValueError, match=r"a group has an lr of its own, 0\.1"):
        recommend(network(), batch_list(), F.cross_entropy, params=[group], **QUICK)


def test_a_rate_that_does_not_last_is_not_taken() -> None:
    """0.1 is best after 60 steps and diverges later (benchmarks/results/lr_window.md); 0.03 works."""
    advice = recommend(
        network(), batch_list(20), F.cross_entropy, depth=4, rates=[0.01, 0.03, 0.3], trial_steps=60
    )
    assert advice.lr in (0.01, 0.03)
    tried: Iterator[float] = (trial.lr for trial in advice.curves["lr"] if trial.failed)
    assert advice.lr < min(tried)


def test_the_figure_shows_the_trials() -> None:
    advice = recommend(network(), batch_list(), F.cross_entropy, **QUICK)
    figure = advice.plot()
    rates, penalties, *_ = figure.axes
    assert len(rates.lines) == len(advice.curves["lr"])
    assert len(penalties.lines) == len(advice.curves["penalty"])
    assert list(penalties.lines[0].get_ydata()) == list(advice.curves["penalty"][0].losses)
