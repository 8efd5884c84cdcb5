"""Lightning trains what the plain loop trains, to the bit, and resumes from its own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer, PenaltyWarmup, sparsify
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
    clip_norm,
    clip_value,
    digits,
    network,
    plain_run,
    zero_masks,
)

pytestmark = [
    # Lightning's advice on data loading, and its use of an older name of torch's.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.:FutureWarning"),
    # The resumed runs save no checkpoints, so they have no ModelCheckpoint.
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
CLIPS = {"norm": (0.05, clip_norm), "value": (0.002, clip_value)}


class Automatic(lightning.LightningModule):
    """Lightning calls backward, clips, steps and schedules."""

    def __init__(self, recipe: Recipe, accumulate: int = 1) -> None:
        super().__init__()
        self.recipe = recipe
        self.accumulate = accumulate
        self.network = network()

    def loss(self, batch: list[Tensor]) -> Tensor:
        pixels, labels = batch
        return F.cross_entropy(self.network(pixels), labels)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.optimizer(self.parameters())
        scheduler = self.recipe.schedule(optimizer, STEPS // self.accumulate)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Manual(Automatic):
    """The module does all of it by itself, through Lightning's wrappers."""

    def __init__(self, recipe: Recipe, accumulate: int = 1, clip: dict[str, Any] | None = None) -> None:
        super().__init__(recipe, accumulate)
        self.automatic_optimization = False
        self.clip = clip

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        self.manual_backward(self.loss(batch) / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0:
            if self.clip is not None:
                self.clip_gradients(optimizer, **self.clip)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


MODULES = [Automatic, Manual]
both_ways = pytest.mark.parametrize("module", MODULES)


def fit(module: Automatic, **options: Any) -> DWFOptimizer:
    """Run `Trainer.fit` and return the optimizer that took the steps."""
    given = {name: options.pop(name) for name in ("ckpt_path", "weights_only") if name in options}
    options.setdefault("enable_checkpointing", False)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, DataLoader(TensorDataset(*digits()), batch_size=BATCH), **given)
    (optimizer,) = trainer.optimizers
    assert type(optimizer) is DWFOptimizer
    return optimizer


@every_recipe
@both_ways
def test_run_is_the_plain_loop(module: type[Automatic], recipe: Recipe) -> None:
    model = module(recipe)
    optimizer = fit(model)
    assert_same_run(model.network, optimizer, *plain_run(recipe))


@every_recipe
@pytest.mark.parametrize("algorithm", CLIPS)
def test_trainer_clips_as_torch_does(algorithm: str, recipe: Recipe) -> None:
    limit, clip = CLIPS[algorithm]
    model = Automatic(recipe)
    optimizer = fit(model, gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
    assert_same_run(model.network, optimizer, *plain_run(recipe, clip=clip))
    assert_other_run(model.network, plain_run(recipe)[0])


@pytest.mark.parametrize("algorithm", CLIPS)
def test_module_clips_by_hand_as_torch_does(algorithm: str) -> None:
    recipe = RECIPES[0]
    limit, clip = CLIPS[algorithm]
    given = {"gradient_clip_val": limit, "gradient_clip_algorithm": algorithm}
    model = Manual(recipe, clip=given)
    optimizer = fit(model)
    assert_same_run(model.network, optimizer, *plain_run(recipe, clip=clip))


@every_recipe
@both_ways
def test_accumulated_gradients(module: type[Automatic], recipe: Recipe) -> None:
    model = module(recipe, accumulate=2)
    optimizer = fit(model, accumulate_grad_batches=2) if module is Automatic else fit(model)
    assert_same_run(model.network, optimizer, *plain_run(recipe, accumulate=2))


@every_recipe
@both_ways
def test_mixed_precision_is_autocast(module: type[Automatic], recipe: Recipe) -> None:
    model = module(recipe)
    optimizer = fit(model, precision="bf16-mixed")
    assert_same_run(model.network, optimizer, *plain_run(recipe, precision=bfloat16))
    assert_other_run(model.network, plain_run(recipe)[0])


@every_recipe
def test_bfloat16_weights_keep_float32_factors(recipe: Recipe) -> None:
    model = Automatic(recipe)
    optimizer = fit(model, precision="bf16-true")
    assert_same_run(model.network, optimizer, *plain_run(recipe, dtype=torch.bfloat16))
    weight = model.network[0].weight
    assert weight.dtype == torch.bfloat16
    assert {factor.dtype for factor in optimizer.factors(weight)} == {torch.float32}


@every_recipe
@both_ways
@pytest.mark.parametrize("epoch", [0, 1])
def test_resumed_run_is_the_uninterrupted_one(
    module: type[Automatic], recipe: Recipe, epoch: int, tmp_path: Path
) -> None:
    """Every file is loaded with weights_only=True, so nothing in it is unpickled into code."""
    whole = module(recipe)
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    optimizer = fit(whole, callbacks=[keep], enable_checkpointing=True)
    assert_same_run(whole.network, optimizer, *plain_run(recipe))

    resumed = module(recipe)
    path = str(tmp_path / f"epoch={epoch}.ckpt")
    torch.nn.init.zeros_(resumed.network[0].weight)  # what the checkpoint must bring
    resumed_optimizer = fit(resumed, ckpt_path=path, weights_only=True)
    assert_same_run(resumed.network, resumed_optimizer, whole.network, optimizer)


class Sparsify(Callback):
    """Sparsifies after the first epoch, through the trainer's optimizer or the module's wrapper."""

    def __init__(self, wrapped: bool) -> None:
        self.wrapped = wrapped
        self.masks: list[Tensor] = []
        self.before: list[Tensor] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch > 0:
            return
        optimizer = pl_module.optimizers() if self.wrapped else trainer.optimizers[0]
        sparsify(pl_module, optimizer, sparsity=SPARSITY)
        self.masks = zero_masks(trainer.optimizers[0])
        self.before = [p.detach().clone() for p in trainer.optimizers[0].factorized()]


@every_recipe
@both_ways
@pytest.mark.parametrize("wrapped", [False, True])
def test_zeros_stay_while_training_goes_on(
    module: type[Automatic], recipe: Recipe, wrapped: bool, tmp_path: Path
) -> None:
    callback = Sparsify(wrapped)
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    optimizer = fit(module(recipe), callbacks=[callback, keep], enable_checkpointing=True)
    assert_zeros_stayed(optimizer, callback.masks, callback.before)

    optimizer = fit(module(recipe), ckpt_path=str(tmp_path / "epoch=0.ckpt"), weights_only=True)
    assert_zeros_stayed(optimizer, callback.masks, callback.before)


def test_penalty_schedulers_take_the_modules_wrapper() -> None:
    """What ``self.optimizers()`` returns stands for the optimizer in it."""
    optimizer = DWFOptimizer(network().parameters(), lr=0.1, penalty=1.0)
    wrapper = LightningOptimizer(optimizer)
    warmup = PenaltyWarmup(wrapper, 4, total_steps=1000)
    warmup.step()
    assert optimizer.param_groups[0]["penalty"] == 0.25


def test_a_second_fit_starts_anew_and_keeps_the_zeros() -> None:
    """Lightning builds a new optimizer; single zeros of the weights it finds stay zero."""
    model = Automatic(RECIPES[0])
    first = fit(model)
    sparsify(model, first, sparsity=SPARSITY)
    masks, before = zero_masks(first), [p.detach().clone() for p in first.factorized()]
    second = fit(model)
    assert second is not first
    assert_zeros_stayed(second, masks, before)
