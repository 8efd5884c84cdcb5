"""Accelerate trains what the plain loop trains, to the bit, and resumes from its own folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer, sparsify
from tests.frameworks.common import (
    BATCH,
    BATCHES,
    EPOCHS,
    RECIPES,
    SPARSITY,
    STEPS,
    Recipe,
    assert_other_run,
    assert_same_run,
    assert_zeros_stayed,
    bfloat16,
    clip_norm,
    clip_value,
    digits,
    network,
    plain_run,
    zero_masks,
)
from tests.helpers import assert_same_state, identical, snapshot

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps its settings in the process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Training:
    """A prepared training loop, as a user of Accelerate writes it."""

    def __init__(self, recipe: Recipe, accumulate: int = 1, precision: str = "no", **options: Any):
        self.accelerator = Accelerator(
            cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulate
        )
        model = network()
        self.inner = recipe.optimizer(model.parameters(), **options)
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            model,
            self.inner,
            DataLoader(TensorDataset(*digits()), batch_size=BATCH),
            recipe.schedule(self.inner, STEPS // accumulate),
        )
        assert type(self.optimizer) is AcceleratedOptimizer
        assert type(self.scheduler) is AcceleratedScheduler
        assert self.optimizer.optimizer is self.inner

    def epoch(
        self,
        clip: Callable[[Training], object] = lambda training: None,
        after: Callable[[int], object] = lambda step: None,
        skip: int = 0,
    ) -> None:
        loader = skip_first_batches(self.loader, skip) if skip else self.loader
        for index, (pixels, labels) in enumerate(loader, start=skip + 1):
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(F.cross_entropy(self.model(pixels), labels))
                if self.accelerator.sync_gradients:
                    clip(self)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            after(index)

    def run(self, **options: Any) -> tuple[nn.Module, DWFOptimizer]:
        for _ in range(EPOCHS):
            self.epoch(**options)
        return self.result()

    def result(self) -> tuple[nn.Module, DWFOptimizer]:
        return self.accelerator.unwrap_model(self.model), self.inner


@every_recipe
@pytest.mark.parametrize("accumulate", [1, 2])
def test_run_is_the_plain_loop(recipe: Recipe, accumulate: int) -> None:
    model, optimizer = Training(recipe, accumulate).run()
    assert optimizer.param_groups[0]["steps"] == STEPS // accumulate
    assert_same_run(model, optimizer, *plain_run(recipe, accumulate=accumulate))


@every_recipe
@pytest.mark.parametrize("init", ["balanced", "dwf", "varmatch"])
def test_preparing_keeps_the_initialization(recipe: Recipe, init: str) -> None:
    """Preparing sends the optimizer through its own state_dict, before any factor is made."""
    options = {"init": init, "depth": 3}
    model, optimizer = Training(recipe, **options).run()
    assert_same_run(model, optimizer, *plain_run(recipe, **options))


CLIPS: list[tuple[Callable[[Training], object], Callable[..., object]]] = [
    (lambda run: run.accelerator.clip_grad_norm_(run.model.parameters(), 0.05), clip_norm),
    (lambda run: run.accelerator.clip_grad_value_(run.model.parameters(), 0.002), clip_value),
]


@every_recipe
@pytest.mark.parametrize(("theirs", "torchs"), CLIPS, ids=["norm", "value"])
def test_clipping_is_torchs(
    recipe: Recipe, theirs: Callable[[Training], object], torchs: Callable[..., object]
) -> None:
    model, optimizer = Training(recipe, accumulate=2).run(clip=theirs)
    assert_same_run(model, optimizer, *plain_run(recipe, accumulate=2, clip=torchs))
    assert_other_run(model, plain_run(recipe, accumulate=2)[0])


@every_recipe
def test_mixed_precision_is_autocast(recipe: Recipe) -> None:
    model, optimizer = Training(recipe, precision="bf16").run()
    assert_same_run(model, optimizer, *plain_run(recipe, precision=bfloat16))
    assert_other_run(model, plain_run(recipe)[0])


@every_recipe
@pytest.mark.parametrize("stop", [1, BATCHES + 4, 2 * BATCHES])
def test_resumed_run_is_the_uninterrupted_one(recipe: Recipe, stop: int, tmp_path: Path) -> None:
    """Saved after a step within an epoch or at its end. load_state unpickles no code."""
    folder = str(tmp_path)
    whole, taken = Training(recipe), []

    def save(index: int) -> None:
        taken.append(index)
        if len(taken) == stop:
            whole.accelerator.save_state(folder)

    whole.run(after=save)
    resumed = Training(recipe)
    resumed.epoch()  # what the folder must undo
    resumed.accelerator.load_state(folder)
    resumed.epoch(skip=stop % BATCHES)
    for _ in range(EPOCHS - stop // BATCHES - 1):
        resumed.epoch()
    assert_same_run(*resumed.result(), *whole.result())
    assert_same_run(*whole.result(), *plain_run(recipe))
    torch.load(tmp_path / "optimizer.bin", weights_only=True)


@every_recipe
def test_wrapper_answers_as_the_optimizer_does(recipe: Recipe) -> None:
    training = Training(recipe, accumulate=2)
    wrapper, inner = training.optimizer, training.inner
    pixels, labels = digits()
    weights = []
    for _ in range(2):
        with training.accelerator.accumulate(training.model):
            training.accelerator.backward(F.cross_entropy(training.model(pixels), labels))
            wrapper.step()
            weights.append(snapshot(training.model))
            wrapper.zero_grad()
            weights.append([p.grad for p in training.model.parameters()])
    assert identical(weights[0], snapshot(network())), "not before the gradients are complete"
    assert all(grad is not None for grad in weights[1])
    assert not identical(weights[2], weights[0])
    assert all(grad is None for grad in weights[3])
    assert wrapper.state is inner.state
    assert wrapper.param_groups is inner.param_groups
    assert wrapper.defaults is inner.defaults

    other = Training(recipe, accumulate=2)
    other.optimizer.load_state_dict(wrapper.state_dict())
    assert_same_state(other.inner, inner)
    wrapper.add_param_group({"params": [nn.Parameter(torch.ones(3, 3))], "penalty": 0.5})
    assert inner.param_groups[1]["penalty"] == 0.5


@every_recipe
def test_zeros_stay_while_training_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    training = Training(recipe)
    training.epoch()
    report = sparsify(training.model, training.optimizer, sparsity=SPARSITY)
    assert report.sparsity >= SPARSITY
    masks = zero_masks(training.inner)
    before = [p.detach().clone() for p in training.inner.factorized()]
    training.accelerator.save_state(str(tmp_path))
    training.epoch()
    assert_zeros_stayed(training.inner, masks, before)

    resumed = Training(recipe)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.epoch()
    assert_zeros_stayed(resumed.inner, masks, before)


def test_sparsify_refuses_a_wrapper_of_another_optimizer() -> None:
    accelerator, model = Accelerator(cpu=True), network()
    wrapper = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="must be a DWFOptimizer or None, got SGD"):
        sparsify(model, wrapper, sparsity=SPARSITY)
