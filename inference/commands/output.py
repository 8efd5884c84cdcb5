"""What a command says: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under one title.

    Attributes:
        title: What they show.
        rows: One mapping a row, all with the same keys, which head the columns.
    """

    title: str
    rows: Sequence[Mapping[str, Cell]]


@dataclass(frozen=True)
class Output:
    """The answer of a command.

    Attributes:
        data: All of it, as lists, numbers and strings.
        tables: What people look at.
        lines: What is said below them.
        passed: Whether a check held; True where nothing is checked.
    """

    data: Mapping[str, Any]
    tables: Sequence[Table] = ()
    lines: Sequence[str] = field(default_factory=tuple)
    passed: bool = True

    def show(self, *, as_json: bool) -> None:
        """Write it to the standard output.

        Args:
            as_json: Whether as JSON, which needs no rich.

        Raises:
            ImportError: If rich is missing and tables are asked for.
        """
        if as_json:
            sys.stdout.write(json.dumps(self.data, indent=2, allow_nan=False) + "\n")
            return
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
        except ImportError as error:
            raise ImportError("tables need rich: pip install 'dwf-optim[cli]', or use --json") from error
        # A file or pipe has no width; tables must not be cut to the 80 columns that are guessed for it.
        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        for table in self.tables:
            made = RichTable(title=table.title, title_justify="left")
            for position, name in enumerate(table.rows[0] if table.rows else ()):
                text = isinstance(table.rows[0][name], str) and position == 0
                made.add_column(name, justify="left" if text else "right", overflow="fold")
            for row in table.rows:
                made.add_row(*map(_shown, row.values()))
            console.print(made)
        for line in self.lines:
            console.print(line, markup=False)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        # Errors are powers of ten, all else reads best in three to four digits.
        return (
            f"{cell:.1e}"
            if cell and abs(cell) < 1e-3
            else f"{cell:.4g}"
            if abs(cell) < 1e4
            else f"{cell:,.0f}"
        )
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
