"""The documentation's example finds the bug in it, and prints what the page says."""

from __future__ import annotations

import re

import pytest

from tests.test_docs import DOCS, brought_by_the_reader, snippets


def test_the_example_finds_the_bug_and_prints_the_counterexample(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = DOCS / "testing.md"
    shown = re.findall(r"^```text\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(shown) == 1
    names = brought_by_the_reader(page)
    for code in snippets(page)[:3]:
        exec(compile(code, str(page), "exec"), names)
    assert shown[0] == capsys.readouterr().out
