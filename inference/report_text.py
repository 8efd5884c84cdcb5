"""Rows as a table, plain or rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows in columns.

    Args:
        rows: The first is the head; all of one length.
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def rich_table(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> Any:
    """Make a table that rich prints; only rich calls it, so rich is there.

    Args:
        rows: As of `plain_table`.
        notes: Lines below.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for cell in rows[0]:
        table.add_column(Text(cell))
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return Group(table, *(Text(note) for note in notes))
