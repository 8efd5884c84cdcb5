"""The monitor as a callback of Lightning. Needs Lightning (the extra "frameworks")."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from dwf_optim.monitor.monitor import Monitor
from dwf_optim.monitor.scalars import scalars


class MonitorCallback(Callback):
    """Watch a Lightning run: ``Trainer(callbacks=[MonitorCallback(every=100)])``.

    Records go to the trainer's logger too, under ``dwf/``, with what the module logs beside them.

    Args:
        number: Which of the trainer's optimizers, from 0.
        **options: Of `dwf_optim.Monitor`.

    Attributes:
        monitor: The monitor, from the start of training on.
    """

    monitor: Monitor

    def __init__(self, number: int = 0, **options: Any) -> None:
        self.number, self.options = number, options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch."""
        self.monitor = Monitor(trainer.optimizers[self.number], **self.options)
        if trainer.logger is not None:
            self.monitor.sinks.append(
                lambda record: trainer.logger.log_metrics(scalars(record), step=record.step)
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Note what the module logged; nothing is copied from a device but when a record is due."""
        if (self.monitor.steps + 1) % self.monitor.every == 0:
            self.monitor.log(**{name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop watching."""
        self.monitor.close()
