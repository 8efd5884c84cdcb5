"""The demo runs, writes what it says, and judges itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import demo


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(out), "--seeds", "1", *arguments])
    demo.main()


def test_a_short_demo_writes_table_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # At half zeros all that is certain to fail is the sparsity.
    with pytest.raises(SystemExit, match=r"did not show what it should.*zeros"):
        run(tmp_path, monkeypatch, "--epochs", "8", "--sparsity", "0.5")
    said = capsys.readouterr().out
    assert "DWFOptimizer" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.md", "demo.png", "exported"]
    for path in (tmp_path / "exported").iterdir():
        assert path.name in said
        assert f"{path.stat().st_size:,}" in said
    assert len(list((tmp_path / "exported").iterdir())) == 5
    assert "| test accuracy |" in (tmp_path / "demo.md").read_text()
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_a_demo_that_loses_accuracy_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two epochs are far too few for the penalty to have found which weights matter.
    with pytest.raises(SystemExit, match="points below the dense"):
        run(tmp_path, monkeypatch, "--epochs", "2", "--sparsity", "0.99")
