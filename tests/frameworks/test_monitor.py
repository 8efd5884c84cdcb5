"""The monitor's callbacks in real runs of Lightning and the Hugging Face Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from dwf_optim import DWFOptimizer
from dwf_optim.monitor import lightning as lightning_monitor
from dwf_optim.monitor import transformers as transformers_monitor
from tests.frameworks.common import BATCH, RECIPES, STEPS, digits
from tests.frameworks.test_lightning import Automatic
from tests.frameworks.test_transformers import InOrder, arguments, bert, samples

SGD = RECIPES[0]


class Logging(Automatic):
    """Logs its loss, as modules do."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss)
        return loss


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.:FutureWarning")
def test_lightning_is_watched_and_its_logger_told(tmp_path: Path) -> None:
    callback = lightning_monitor.MonitorCallback(every=6, path=tmp_path / "run.jsonl")
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[callback],
        logger=CSVLogger(tmp_path, name="log"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    model = Logging(SGD)
    trainer.fit(model, DataLoader(TensorDataset(*digits()), batch_size=BATCH))
    records = callback.monitor.records
    assert [record.step for record in records] == list(range(6, STEPS + 1, 6))
    assert [len(record.layers) for record in records] == [2] * len(records)
    assert all(record.values["loss"] > 0 for record in records)
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == len(records)
    logged = next((tmp_path / "log").rglob("metrics.csv")).read_text()
    assert "dwf/misalignment" in logged


def test_the_trainer_is_watched(tmp_path: Path) -> None:
    callback = transformers_monitor.MonitorCallback(every=6)
    model = bert()
    optimizer = DWFOptimizer(model.parameters(), lr=0.02, penalty=1e-3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    trainer = InOrder(
        model,
        arguments(tmp_path, logging_steps=5),
        train_dataset=samples(),
        optimizers=(optimizer, schedule),
        callbacks=[callback],
    )
    trainer.train()
    records = callback.monitor.records
    assert [record.step for record in records] == list(range(6, STEPS + 1, 6))
    assert all(record.values["loss"] > 0 for record in records)
