"""The Hugging Face Trainer trains what the plain loop trains, to the bit, and resumes likewise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from dwf_optim import DWFOptimizer, param_groups, sparsify
from tests.frameworks.common import (
    BATCH,
    EPOCHS,
    RECIPES,
    SPARSITY,
    STEPS,
    Recipe,
    assert_other_run,
    assert_same_run,
    assert_zeros_stayed,
    bfloat16,
    digits,
    zero_masks,
)
from tests.helpers import seeded

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)

Sample = dict[str, Tensor]


def bert(dropout: float = 0.0) -> BertForSequenceClassification:
    """The same tiny BERT every time, of 16 tokens."""
    config = BertConfig(
        vocab_size=17,
        max_position_embeddings=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=10,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for index, p in enumerate(model.parameters()):
            if p.ndim >= 2:
                p.copy_(0.2 * torch.randn(p.shape, generator=seeded(index)))
    return model


def samples() -> list[Sample]:
    """Every fourth pixel of a digit is a token."""
    pixels, labels = digits()
    tokens = (16 * pixels[:, ::4]).long()
    return [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]


class InOrder(Trainer):
    """Without shuffling, so that the plain loop sees the same batches."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    options = {"per_device_train_batch_size": BATCH, "max_grad_norm": 0.0, **options}
    return TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )


def inner(trainer: Trainer) -> DWFOptimizer:
    """The optimizer in the wrapper that training leaves in ``trainer.optimizer``."""
    assert type(trainer.optimizer) is AcceleratedOptimizer
    assert type(trainer.optimizer.optimizer) is DWFOptimizer
    return trainer.optimizer.optimizer


def by_pair(model: nn.Module, recipe: Recipe, folder: Path, **options: Any) -> Trainer:
    """``optimizers=(optimizer, scheduler)``."""
    optimizer = recipe.optimizer(param_groups(model, penalty=1e-3))
    pair = optimizer, recipe.schedule(optimizer, STEPS)
    return InOrder(model, arguments(folder, **options), train_dataset=samples(), optimizers=pair)


def plain_run(
    recipe: Recipe,
    *,
    groups: Callable[[nn.Module], Any] = lambda model: param_groups(model, penalty=1e-3),
    schedule: Callable[[DWFOptimizer], Any] | None = None,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    max_norm: float | None = None,
) -> tuple[nn.Module, DWFOptimizer]:
    model = bert().train()
    optimizer = recipe.optimizer(groups(model))
    scheduler = recipe.schedule(optimizer, STEPS) if schedule is None else schedule(optimizer)
    data = samples()
    for _ in range(EPOCHS):
        for start in range(0, len(data), BATCH):
            rows = data[start : start + BATCH]
            with precision():
                tokens = torch.stack([row["input_ids"] for row in rows])
                labels = torch.stack([row["labels"] for row in rows])
                loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            scheduler.step()
            model.zero_grad()
    return model, optimizer


@every_recipe
def test_given_optimizer_and_scheduler(recipe: Recipe, tmp_path: Path) -> None:
    trainer = by_pair(bert(), recipe, tmp_path)
    trainer.train()
    assert_same_run(trainer.model, inner(trainer), *plain_run(recipe))


def linear(optimizer: DWFOptimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """The Trainer's default schedule."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (STEPS - step) / STEPS)


@every_recipe
def test_given_class_with_groups(recipe: Recipe, tmp_path: Path) -> None:
    model = bert()
    options = {**recipe.options, "params": param_groups(model, penalty=1e-3)}
    trainer = InOrder(
        model,
        arguments(tmp_path),
        train_dataset=samples(),
        optimizer_cls_and_kwargs=(DWFOptimizer, options),
    )
    trainer.train()
    assert_same_run(model, inner(trainer), *plain_run(recipe, schedule=linear))
    held = set(inner(trainer).factorized())
    assert model.bert.encoder.layer[0].attention.self.query.weight in held
    assert model.bert.embeddings.word_embeddings.weight not in held


@every_recipe
def test_given_class_takes_the_trainers_groups(recipe: Recipe, tmp_path: Path) -> None:
    """Without groups of our own the Trainer's are taken, and every matrix is factorized."""
    model = bert()
    trainer = InOrder(
        model,
        arguments(tmp_path),
        train_dataset=samples(),
        optimizer_cls_and_kwargs=(DWFOptimizer, {**recipe.options, "penalty": 1e-3}),
    )
    trainer.train()

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        decayed = trainer.get_decay_parameter_names(model)
        parts = [
            [p for n, p in model.named_parameters() if (n in decayed) is side] for side in (True, False)
        ]
        return [{"params": part, "weight_decay": 0.0} for part in parts]

    assert_same_run(model, inner(trainer), *plain_run(recipe, groups=groups, schedule=linear))
    assert model.bert.embeddings.word_embeddings.weight in set(inner(trainer).factorized())


@every_recipe
def test_overridden_create_optimizer(recipe: Recipe, tmp_path: Path) -> None:
    class Sparse(InOrder):
        def create_optimizer(self, model: nn.Module | None = None) -> DWFOptimizer:
            self.optimizer = recipe.optimizer(param_groups(self.model, penalty=1e-3))
            return self.optimizer

    model = bert()
    trainer = Sparse(model, arguments(tmp_path), train_dataset=samples())
    trainer.train()
    assert_same_run(model, inner(trainer), *plain_run(recipe, schedule=linear))


@every_recipe
def test_gradients_are_clipped_as_torch_does(recipe: Recipe, tmp_path: Path) -> None:
    trainer = by_pair(bert(), recipe, tmp_path, max_grad_norm=0.05)
    trainer.train()
    assert_same_run(trainer.model, inner(trainer), *plain_run(recipe, max_norm=0.05))
    assert_other_run(trainer.model, plain_run(recipe)[0])


@every_recipe
def test_accumulated_gradients(recipe: Recipe, tmp_path: Path) -> None:
    """Half batches, their summed losses over the number of samples in both."""

    def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    model = bert()
    optimizer = recipe.optimizer(param_groups(model, penalty=1e-3))
    trainer = InOrder(
        model,
        arguments(tmp_path, per_device_train_batch_size=BATCH // 2, gradient_accumulation_steps=2),
        train_dataset=samples(),
        optimizers=(optimizer, recipe.schedule(optimizer, STEPS)),
        compute_loss_func=compute_loss,
    )
    trainer.train()

    twin = bert().train()
    plain = recipe.optimizer(param_groups(twin, penalty=1e-3))
    scheduler = recipe.schedule(plain, STEPS)
    tokens, labels = (torch.stack([row[key] for row in samples()]) for key in ("input_ids", "labels"))
    for _ in range(EPOCHS):
        for index, (part, answers) in enumerate(
            zip(tokens.split(BATCH // 2), labels.split(BATCH // 2), strict=True)
        ):
            loss = F.cross_entropy(twin(input_ids=part).logits, answers, reduction="sum") / BATCH
            loss.backward()
            if index % 2 == 1:
                plain.step()
                scheduler.step()
                plain.zero_grad()
    assert_same_run(model, optimizer, twin, plain)
    assert optimizer.param_groups[0]["steps"] == STEPS


@every_recipe
def test_mixed_precision_is_autocast(recipe: Recipe, tmp_path: Path) -> None:
    trainer = by_pair(bert(), recipe, tmp_path, bf16=True)
    trainer.train()
    assert_same_run(trainer.model, inner(trainer), *plain_run(recipe, precision=bfloat16))
    assert_other_run(trainer.model, plain_run(recipe)[0])


def shuffled(recipe: Recipe, folder: Path, **options: Any) -> Trainer:
    """As users train: batches shuffled, dropout on, a checkpoint every fourth step."""
    model = bert(dropout=0.1)
    optimizer = recipe.optimizer(param_groups(model, penalty=1e-3))
    return Trainer(
        model,
        arguments(folder, save_strategy="steps", save_steps=4, seed=1, **options),
        train_dataset=samples(),
        optimizers=(optimizer, recipe.schedule(optimizer, STEPS)),
    )


@every_recipe
@pytest.mark.parametrize("step", [4, 12])
def test_resumed_run_is_the_uninterrupted_one(recipe: Recipe, step: int, tmp_path: Path) -> None:
    """Step 4 is within an epoch, 12 at its end. The Trainer loads with weights_only=True."""
    whole = shuffled(recipe, tmp_path / "whole")
    whole.train()
    resumed = shuffled(recipe, tmp_path / "resumed")
    folder = tmp_path / "whole" / f"checkpoint-{step}"
    nn.init.zeros_(resumed.model.classifier.weight)  # what the checkpoint must bring
    resumed.train(resume_from_checkpoint=str(folder))
    assert_same_run(resumed.model, inner(resumed), whole.model, inner(whole))
    saved = torch.load(folder / "optimizer.pt", weights_only=True)
    assert saved["state"].keys() == inner(whole).state_dict()["state"].keys()


class Sparsify(TrainerCallback):
    """Sparsifies after the eighth step, before the checkpoint is saved."""

    masks: list[Tensor]
    before: list[Tensor]

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 8:
            sparsify(given["model"], given["optimizer"], sparsity=SPARSITY)
            optimizer = given["optimizer"].optimizer
            self.masks = zero_masks(optimizer)
            self.before = [p.detach().clone() for p in optimizer.factorized()]


@every_recipe
def test_zeros_stay_while_training_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    trainer, callback = shuffled(recipe, tmp_path / "whole"), Sparsify()
    trainer.add_callback(callback)
    trainer.train()
    assert_zeros_stayed(inner(trainer), callback.masks, callback.before)

    resumed = shuffled(recipe, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-8"))
    assert_zeros_stayed(inner(resumed), callback.masks, callback.before)
    assert_same_run(resumed.model, inner(resumed), trainer.model, inner(trainer))
