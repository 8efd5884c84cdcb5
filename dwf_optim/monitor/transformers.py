"""The monitor as a callback of the Hugging Face Trainer. Needs transformers (the extra "frameworks")."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from dwf_optim.monitor.monitor import Monitor


class MonitorCallback(TrainerCallback):
    """Watch a run of the Trainer: ``Trainer(..., callbacks=[MonitorCallback(every=100)])``.

    What the Trainer logs (loss, evaluation metrics) goes with the next record.

    Args:
        **options: Of `dwf_optim.Monitor`.

    Attributes:
        monitor: The monitor, from the start of training on.
    """

    monitor: Monitor

    def __init__(self, **options: Any) -> None:
        self.options = options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch."""
        self.monitor = Monitor(kwargs["optimizer"], **self.options)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Note what the Trainer logs."""
        if hasattr(self, "monitor"):
            numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
            self.monitor.log(**numbers)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop watching."""
        self.monitor.close()
