"""The Python snippets of the README and the documentation run as they stand, page by page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import dwf_optim
import dwf_optim.testing
import inference
from dwf_optim import DWFOptimizer, auto_lr_scale, decay_budget, sparsify
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


@pytest.mark.parametrize(
    "package", [dwf_optim, dwf_optim.testing, inference], ids=lambda package: package.__name__
)
def test_the_reference_holds_what_the_package_exports(package: ModuleType) -> None:
    text = (DOCS / "api" / f"{package.__name__}.md").read_text()
    listed = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(package.__all__)


def table(page: Path, first: str) -> list[dict[str, str]]:
    """The table with these first columns, as a list of rows by column name."""
    text = page.read_text()
    lines = text[text.index(f"\n| {first} |") + 1 :].split("\n\n", 1)[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


RESULTS = ROOT / "benchmarks" / "results"


def mnist_run(depth: str, batch: int, penalty: str) -> dict[str, str]:
    (run,) = (
        row
        for row in table(RESULTS / "mnist.md", "depth | batch | penalty")
        if (row["depth"], row["batch"]) == (depth, str(batch))
        and float(row["penalty"]) == float(penalty)
    )
    return run


def test_quoted_learning_rates_are_those_measured() -> None:
    quoted = table(DOCS / "choosing.md", "base | depth | good in every case")
    assert [
        {"base kind" if key == "base" else key: value.lower() for key, value in row.items()}
        for row in quoted
    ] == table(RESULTS / "lr_window.md", "base kind | depth | good in every case")


def test_quoted_depths_are_those_measured() -> None:
    for row in table(DOCS / "choosing.md", "depth | penalty | test accuracy"):
        run = mnist_run(row["depth"], 128, row["penalty"])
        assert row["test accuracy"] == f"{run['t=0.002: test']} %"
        assert row["compression"] == run["t=0.002: c"]


def test_quoted_budgets_are_those_of_the_runs() -> None:
    steps = 20 * math.ceil(55_000 / 256)
    rates = [0.1 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    scale = auto_lr_scale(3, "sgd")
    for row in table(DOCS / "choosing.md", "penalty | budget, of 6.5"):
        penalty, budget, at_eps, by_tolerance = row.values()
        run = mnist_run("3", 256, penalty)
        expected = decay_budget(rates, penalty=float(penalty), steps=steps, lr_scale=scale, momentum=0.9)
        assert budget == f"{expected.available:.1f}"
        assert (at_eps, by_tolerance) == (run["c at eps"], run["t=0.002: c"])


def test_quoted_storages_are_those_measured() -> None:
    measured = {
        row["storage"]: row
        for row in table(RESULTS / "storage.md", "storage | tolerance | test accuracy, %")
        if row["tolerance"] == "0.002"
    }
    for row in table(DOCS / "choosing.md", "`storage` | test accuracy, mean (least to most)"):
        storage, accuracy, compression = row.values()
        run = measured[storage.strip('`"')]
        assert accuracy.replace(" %", "") == run["test accuracy, %"]
        assert compression == run["compression"]


def test_quoted_targets_are_those_measured() -> None:
    measured = {
        (row["net"], row["base"], row["asked"]): f"{row['accuracy']} ({row['difference']})"
        for row in table(RESULTS / "target_sparsity.md", "net | base | asked | reached")
    }
    for row in table(DOCS / "target-sparsity.md", "network, data, base | 90 % | 95 %"):
        (_, what), *cells = row.items()
        net, base = what.rsplit(", ", 1)
        for asked, cell in cells:
            assert cell == measured[net, base.lower(), asked.replace(" ", "")]
