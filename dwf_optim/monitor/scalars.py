"""A record as named numbers, for whatever keeps such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwf_optim.monitor.record import Record


def scalars(record: Record) -> dict[str, float]:
    """Name the numbers of a record that one follows over time.

    Args:
        record: Of a monitor.

    Returns:
        Sparsities, misalignment, penalties and rates under ``dwf/``.
    """
    made = {
        f"dwf/sparsity/all at {threshold:.2g}": record.sparsity(index)
        for index, threshold in enumerate(record.thresholds)
    }
    made["dwf/misalignment"] = record.misalignment
    made |= {f"dwf/sparsity/{name}": layer.sparsity() for name, layer in record.layers.items()}
    for number, (penalty, lr) in enumerate(zip(record.penalties, record.lrs, strict=True)):
        made |= {f"dwf/penalty/group {number}": penalty, f"dwf/lr/group {number}": lr}
    return made


def tensorboard(writer: Any) -> Callable[[Record], None]:
    """Make a sink that writes records to TensorBoard, what was logged beside them included.

    Args:
        writer: A ``torch.utils.tensorboard.SummaryWriter`` (extra "tensorboard"), or whatever has its
            ``add_scalar``.
    """

    def write(record: Record) -> None:
        for name, value in {**scalars(record), **record.values}.items():
            writer.add_scalar(name, value, record.step)

    return write
