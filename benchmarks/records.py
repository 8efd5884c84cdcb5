"""Results of runs as they come, kept in a JSONL file, and how committed tables are written."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
CONFIG, RESULT, MADE = "config", "result", "made"


class Records:
    """What has been run: one JSON object a line, with the configuration as its key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self.rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue  # cut off when a run was stopped: it is run again

    def has(self, config: Mapping[str, Any]) -> bool:
        """Say whether this configuration has been run."""
        return any(row[CONFIG] == dict(config) for row in self.rows)

    def add(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Append one run to the file."""
        row = {CONFIG: dict(config), RESULT: _plain(result), MADE: environment()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that was cut off has no end, and would take this one with it.
        cut_off = (
            self.path.exists()
            and self.path.stat().st_size > 0
            and not self.path.read_bytes().endswith(b"\n")
        )
        with self.path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(row) + "\n")
        self.rows.append(row)

    def provenance(self) -> str:
        """Say in Markdown on which machines, with what, and when the runs were made."""
        made = [row[MADE] for row in self.rows]
        days = sorted({entry["date"] for entry in made})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        return "; ".join(sorted({describe(entry) for entry in made})) + f"; {when}."


def environment() -> dict[str, Any]:
    """Return what a result depends on and the configuration does not say."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def describe(entry: Mapping[str, Any]) -> str:
    """Say in one line what `environment` found, without the date."""
    return (
        f"{entry['machine']}, {entry['threads']} thread{'s' if entry['threads'] > 1 else ''}, "
        f"torch {entry['torch']}, Python {entry['python']}"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table, numbers to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---:|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


def _plain(result: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN or infinity.
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in result.items()
    }


def _processor() -> str:
    """Return the processor's name and number of cores, where the system tells them."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{fields[0]} ({len(fields)} cores)" if fields else name
