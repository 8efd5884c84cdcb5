"""The analyses' runs see what is there, resume, and make pages whether they are complete or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.analyses import __main__ as command
from benchmarks.analyses import misalignment, onset, runs
from benchmarks.analyses.__main__ import ANALYSES
from benchmarks.analyses.analysis import Runs, misaligned
from benchmarks.analyses.runs import configuration, run
from benchmarks.data import Data, Split
from benchmarks.records import Records
from dwf_optim import DWFOptimizer
from dwf_optim.init import INITS, Init
from tests.helpers import seeded


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runs, "STEPS", 12)
    monkeypatch.setattr(runs, "EVERY", 5)
    monkeypatch.setattr(runs, "BATCH_SIZE", 16)
    yield
    torch.set_flush_denormal(False)


def data(count: int = 64) -> Data:
    generator = seeded(0)

    def split() -> Split:
        return Split(torch.randn(count, 1, 28, 28, generator=generator), torch.arange(count) % 10)

    return Data(split(), split(), split())


def test_a_run_is_watched_from_its_first_step(short: None) -> None:
    made = run(configuration(depth=2, images=48), data())
    history = made["history"]
    assert made["finite"]
    assert history["step"] == [1, 5, 10]
    assert {len(column) for column in history.values()} == {3}
    layers = [name for name in history if name.startswith("sparsity ")]
    assert len(layers) == 3
    # 784 x 300, 300 x 100 and 100 x 10 weights make the whole; the history has four digits.
    sizes = torch.tensor([235_200.0, 30_000, 1000])
    parts = torch.tensor([history[name] for name in layers])
    whole = (sizes[:, None] * parts).sum(0) / sizes.sum()
    torch.testing.assert_close(whole, torch.tensor(history["sparsity"]), rtol=1e-3, atol=0)
    assert run(configuration(depth=2, images=48), data()) == {
        **made,
        "seconds": pytest.approx(0, abs=60),
    }


def test_what_diverges_is_kept_as_far_as_it_went(short: None) -> None:
    made = run(configuration(lr=1e30, depth=1), data())
    assert not made["finite"]
    assert made["collapsed"] is None
    assert made["history"]["step"] == [1]


def test_dense_has_no_penalty_and_no_init() -> None:
    dense = configuration(depth=1, penalty=1e-3)
    assert (dense["penalty"], dense["init"]) == (0.0, None)
    with pytest.raises(ValueError, match=r"a run has no \['penalt'\]; it has \['depth'"):
        configuration(penalt=1e-3)


@pytest.mark.parametrize("depth", [2, 3])
def test_plain_factors_make_a_product_of_sigma_to_the_depth(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INITS, "plain", Init(runs._plain, redraws=True))
    layer = nn.Linear(400, 300, bias=False)
    nn.init.normal_(layer.weight, std=0.05, generator=seeded(0))
    DWFOptimizer(layer.parameters(), lr=0.1, penalty=1e-4, depth=depth, init="plain")
    # The product of D normals has kurtosis 3^D, so its mean square over n draws spreads by
    # sqrt((3^D - 1) / n); five of these.
    bound = 5 * math.sqrt((3**depth - 1) / layer.weight.numel())
    mean_square = layer.weight.square().mean().item() / 0.05 ** (2 * depth)
    # The layer's own sigma is measured: it is 0.05 to one part in sqrt(2 n), to the power of 2 D.
    assert abs(mean_square - 1) < bound + 5 * 2 * depth / math.sqrt(2 * layer.weight.numel())


def test_the_package_is_left_without_the_plain_init(short: None) -> None:
    run(configuration(init="plain"), data())
    assert runs.PLAIN not in INITS


def test_the_law_of_misalignment_is_the_integral_of_the_rates() -> None:
    """Rates of a cosine schedule sum up to half of the highest's times (steps + 1)."""
    start, end = misalignment.law(2, [0, runs.STEPS])
    # A weight of 0.13 moves 1 / (2 * 0.13) = 3.85 times as far at depth 2.
    travelled = 0.1 / (2 * 0.13) * (runs.STEPS + 1) / 2 / (1 - 0.9)
    assert start == 1
    assert end == pytest.approx(math.exp(-4 * 3e-4 * travelled / 2), rel=1e-6)


def test_phases_begin_where_a_tenth_and_nine_tenths_of_the_zeros_are() -> None:
    zeros = [0.0, 0.05, 0.1, 0.5, 0.91, 1.0]
    assert onset.begin({"history": {"sparsity": zeros}}) == {"dense": 0, "transition": 2, "sparse": 4}
    assert onset.begin({"history": {"sparsity": [0.0, 0.0]}}) == {"dense": 0}


def test_misalignment_is_a_part_of_the_penalty_that_factors_begin_with() -> None:
    history = {"step": [1, 2], "misalignment": [1.0, 0.5], "quasi_norm": [3.0, 0.1]}
    assert misaligned({"history": history}) == ([1, 2], [0.25, 0.125])


def test_runs_resume_and_pages_say_what_is_missing(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [configuration(depth=depth) for depth in (1, 2)]
    monkeypatch.setattr(runs, "load", lambda *_: data())
    runs.run_missing([*configs, configs[0]], Records(tmp_path / "runs.jsonl"), tmp_path)
    records = Records(tmp_path / "runs.jsonl")
    assert len(records.rows) == 2

    def refuse(*_: object) -> Data:
        raise AssertionError("nothing is missing, so nothing is loaded")

    monkeypatch.setattr(runs, "load", refuse)
    runs.run_missing(configs, records, tmp_path)
    assert Runs(records).of(depth=2) == records.rows[1]["result"]
    assert Runs(records).of(depth=3) is None
    command.main(["report", "--out", str(tmp_path)])
    page = (tmp_path / "layers.md").read_text()
    assert "**2 of 4 runs are not run yet**" in page
    assert "| 3 | – | – | – | – |" in page
    for name in ANALYSES:
        assert (tmp_path / f"{name}.md").read_text().startswith("# ")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_pages_are_made_of_nothing(tmp_path: Path) -> None:
    command.main(["report", "--out", str(tmp_path)])
    assert "No runs yet." in (tmp_path / "depths.md").read_text()


def test_unknown_analyses_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["report", "colour"])
    assert "unknown analysis ['colour']; there are layers" in capsys.readouterr().err
