"""Run the command line in this process, as ``python -m inference`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inference.commands import main
from tests.helpers import seeded

FACTORIES = "tests.inference.commands.factories"


def sparse_weights(model: nn.Module, path: Path, density: float = 0.2) -> Path:
    """Draw weights of which most are zero, leave biases and norms, and save all."""
    generator = seeded(0)
    with torch.no_grad():
        for p in (p for p in model.parameters() if p.dim() >= 2):
            kept = torch.rand(p.shape, generator=generator) < density
            p.copy_(torch.randn(p.shape, generator=generator) * kept)
    torch.save(model.state_dict(), path)
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Return what a command says in JSON; it has to succeed."""
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what a command says on the standard error; it has to refuse."""
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err
