"""The Python snippets of the README and the documentation run as they stand, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dwf_optim import DWFOptimizer, sparsify
from dwf_optim.convert import MOMENTS
from dwf_optim.init import INITS
from dwf_optim.step import BACKENDS
from inference.formats import BACKENDS as CSR_BACKENDS
from tests.helpers import seeded

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What these show needs frameworks or several processes: it stands in docs/examples, tested elsewhere.
ELSEWHERE = {"distributed.md", "frameworks.md"}
PAGES = [ROOT / "README.md", *(p for p in sorted(DOCS.rglob("*.md")) if p.name not in ELSEWHERE)]
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> list[str]:
    """The page's snippets, each behind as many empty lines as make its line numbers the page's."""
    text = page.read_text()
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match.group(1) for match in SNIPPET.finditer(text)
    ]


def brought_by_the_reader(page: Path) -> dict[str, Any]:
    """The names that a page may use without defining them."""
    generator = seeded(0)
    inputs = torch.randn(160, 20, generator=generator)
    labels = (inputs[:, :3].sum(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
    for p in model.parameters():
        # Layers of one scale, as after training: of torch's, a global sparsity empties the last.
        nn.init.normal_(p, std=0.2)

    def accuracy(model: nn.Module) -> float:
        return float((model(inputs).argmax(1) == labels).float().mean())

    names: dict[str, Any] = {"torch": torch, "model": model, "accuracy": accuracy}
    names["loader"] = list(zip(inputs.split(16), labels.split(16), strict=True))
    if page.name in ("README.md", "index.md"):
        # The front page's first snippet shows a change, not a script.
        names |= {"DWFOptimizer": DWFOptimizer, "sparsify": sparsify}
        names["plain_optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    return names


@pytest.fixture(autouse=True)
def clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder and a random stream of its own; what a page registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    registries: list[dict[str, Any]] = [MOMENTS, INITS, BACKENDS, CSR_BACKENDS]
    kept = [dict(registry) for registry in registries]
    with torch.random.fork_rng(devices=[]):
        yield
    for registry, before in zip(registries, kept, strict=True):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if snippets(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_snippets_run(page: Path) -> None:
    names = brought_by_the_reader(page)
    for code in snippets(page):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_snippet_is_overlooked(page: Path) -> None:
    """However a fence is indented or spelled, what says that it is Python was run above."""
    fences = re.findall(r"^[\s>]*(?:```+|~~~+|:::+)\s*\{?\S*py", page.read_text(), re.MULTILINE)
    assert len(fences) == len(snippets(page))
