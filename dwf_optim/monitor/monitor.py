"""`Monitor`: records of a run, in memory and in files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from dwf_optim.monitor.record import THRESHOLDS, Record, measure
from dwf_optim.unwrap import unwrap


class Monitor:
    """Watch an optimizer: every so many steps, record sparsity, norms, misalignment, penalty and rate.

    It hooks itself behind ``optimizer.step()`` and changes nothing there. A measurement reads every
    factor, so ``every`` decides what it costs.

    Args:
        optimizer: A `~dwf_optim.DWFOptimizer`, or Accelerate's wrapper of one.
        every: Steps between two records, at least 1. At 200 they take less than 1 % of the time of a
            small network's training (benchmarks/results/monitor.md).
        thresholds: ``|weight|`` that counts as zero; the last one is the one plotted.
        path: A JSONL file that every record is added to; an existing one is continued.
        sinks: Called with every record, as `dwf_optim.monitor.tensorboard` makes them.

    Attributes:
        records: All of them, the file's earlier ones included.

    Raises:
        TypeError: If ``optimizer`` is not a `~dwf_optim.DWFOptimizer`.
        ValueError: If a number is out of range, or the file holds something else.

    Example:
        >>> monitor = Monitor(optimizer, every=100)
        >>> train(model, optimizer)
        >>> monitor.plot().savefig("run.png")
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        every: int = 200,
        thresholds: Sequence[float] = THRESHOLDS,
        path: str | os.PathLike[str] | None = None,
        sinks: Sequence[Callable[[Record], None]] = (),
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if not thresholds or min(thresholds) < 0:
            raise ValueError(f"thresholds must be one or more numbers >= 0, got {list(thresholds)}")
        self.optimizer, self.every = unwrap(optimizer), every
        self.thresholds = tuple(sorted(thresholds))
        self.path = None if path is None else Path(path)
        self.sinks = list(sinks)
        self.records: list[Record] = [] if self.path is None else read_records(self.path)
        if self.path is not None:
            _drop_cut_line(self.path)
        self.steps = self.records[-1].step if self.records else 0
        self._values: dict[str, float] = {}
        self._hook = self.optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, *_: object) -> None:
        self.steps += 1
        if self.steps % self.every == 0:
            self.record()

    def log(self, **values: float) -> None:
        """Note numbers for the next record, as ``log(loss=...)``; the last of a name counts.

        Args:
            **values: Plain numbers. Of a tensor pass ``.item()``, when it costs nothing.
        """
        self._values.update({name: float(value) for name, value in values.items()})

    def record(self) -> Record:
        """Measure now, whatever the step."""
        measured = measure(self.optimizer, self.steps, self.thresholds)
        made = Record(**{**vars(measured), "values": self._values})
        self._values = {}
        self.records.append(made)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(made.to_dict(), allow_nan=False) + "\n")
        for sink in self.sinks:
            sink(made)
        return made

    def close(self) -> None:
        """Stop watching; the records stay."""
        self._hook.remove()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def plot(self) -> Any:
        """Draw the run: metrics, compression, misalignment, and each layer's sparsity over time.

        Returns:
            A matplotlib figure; ``savefig`` writes it.

        Raises:
            ImportError: If matplotlib is missing.
            ValueError: If there are no records yet.
        """
        from dwf_optim.monitor.figure import draw

        return draw(self.records)


def read_records(path: Path) -> list[Record]:
    """Read what a monitor wrote.

    Args:
        path: JSONL; there are none if it does not exist. A last line that was cut off is left out.

    Raises:
        ValueError: If it holds something else.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole_lines = [line for line in lines if line.endswith("\n")]
    try:
        return [Record.from_dict(json.loads(line)) for line in whole_lines]
    except ValueError as error:
        raise ValueError(f"{path} is not what a monitor wrote ({error}); name another file") from error


def _drop_cut_line(path: Path) -> None:
    """Take away what a run that was killed left of its last line, so that the next one starts anew."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
