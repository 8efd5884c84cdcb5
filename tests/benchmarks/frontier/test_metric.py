"""Networks are judged by error or by bits, and depths against the rest, losses as plainly as wins."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.data import Split
from benchmarks.frontier import metric
from benchmarks.frontier.datasets import load
from benchmarks.frontier.experiments import EXPERIMENTS, Experiment
from benchmarks.frontier.metric import BITS, ERROR, measured
from benchmarks.frontier.points import Point, points_of
from benchmarks.frontier.report import to_markdown
from benchmarks.frontier.trial import run
from benchmarks.frontier.verdicts import against_others, against_published
from benchmarks.models import mlp
from benchmarks.records import Records
from tests.helpers import seeded

TEXT = EXPERIMENTS["text-transformer"]


class Constant(nn.Module):
    """Logits that do not depend on the characters."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[None, :, None].expand(len(tokens), -1, tokens.shape[1])


def test_the_results_page_has_every_experiment() -> None:
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text()
    for name in EXPERIMENTS:
        assert f"benchmarks/results/frontier/{name}.md" in page


def test_bits_are_the_entropy_of_a_guess() -> None:
    """Symbols of probability 1/2, 1/4, 1/8, 1/8 cost 1, 2, 3 and 3 bits."""
    tokens = torch.tensor([[0, 0, 0, 0], [1, 1, 2, 3]])
    made = measured(Constant(torch.tensor([0.5, 0.25, 0.125, 0.125]).log()), Split(tokens, tokens))
    assert made["bits"] == pytest.approx((4 * 1 + 2 * 2 + 3 + 3) / 8)
    assert made["accuracy"] == 0.5
    assert BITS.of(made) == made["bits"]
    broken = measured(Constant(torch.tensor([math.nan, 0.0, 0.0, 0.0])), Split(tokens, tokens))
    assert broken["bits"] is None
    assert BITS.of(broken) == math.inf


def test_images_are_judged_alike_in_one_part_or_many(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(torch.randn(50, 6, generator=seeded(0)), torch.arange(50) % 3)
    model = mlp((6, 8, 3), 0)
    hits = int((model(split.inputs).argmax(1) == split.targets).sum())
    assert 0 < hits < 50
    assert measured(model, split) == {"accuracy": hits / 50}
    monkeypatch.setattr(metric, "AT_ONCE", 7 * 6)
    assert measured(model, split) == {"accuracy": hits / 50}
    assert ERROR.of({"accuracy": hits / 50}) == pytest.approx(2 * (50 - hits))


def test_the_transformer_trains_on_text_and_is_judged_by_bits(tmp_path) -> None:
    data = load("text", tmp_path, torch.device("cpu"))
    config = {**TEXT.tuning(["dwf-3"])[0], "epochs": 1, "samples": 64, "compressions": [2.0]}
    made = run({**config, "lr": 0.1}, data)
    (point,) = made["points"]
    assert made["finite"]
    assert point["reached"] == pytest.approx(2, rel=1e-4)
    assert 0 < point["bits"] < 20
    assert "1.0.weight" not in point["layers"]
    assert "characters.weight" in point["layers"]


def test_less_is_better_for_text_too(tmp_path) -> None:
    """The rate of the fewest bits is chosen, whatever the accuracy."""
    small = Experiment("text", "transformer", 1, 32, (2.0,), seeds=(0,), methods=("magnitude",))
    records = Records(tmp_path / "text.jsonl")
    for number, config in enumerate(small.tuning()):
        point = {"compression": 2.0, "bits": 3.0 + abs(number - 2), "accuracy": 0.1 * number}
        records.add(config, {"finite": True, "seconds": 1.0, "points": [point]})
    best = small.tuning()[2]["lr"]
    (final,) = small.final({("magnitude", 2.0): (best, 0.0)})
    point = {"compression": 2.0, "bits": 2.5, "accuracy": 0.4}
    records.add(final, {"finite": True, "seconds": 1.0, "points": [point]})
    points = points_of(small, records)
    assert points == {"magnitude": {2.0: Point((2.5,), best, 0.0)}}
    page = to_markdown("text", small, records, points)
    assert "| magnitude | **2.500** |" in page
    assert "Bits per character on the test set, at compression" in page


SMALL = Experiment("mnist", "LeNet-300-100", 1, 128, (20.0, 100.0, 500.0))


def test_losses_are_told_as_wins_are() -> None:
    points = {
        "dwf-2": {20.0: Point((1.0, 2.0), 0.1, 0), 100.0: Point((5.0, 5.0), 0.1, 0)},
        "dwf-3": {20.0: Point((1.8, 1.9), 0.1, 0), 100.0: Point((4.0, 4.2), 0.1, 0)},
        "gmp": {20.0: Point((1.9, 2.1), 0.1, 0), 100.0: Point((3.0, 3.2), 0.1, 0)},
        "snip": {20.0: Point((9.0, 9.0), 0.1, 0), 500.0: Point((9.0, 9.0), 0.1, 0)},
    }
    _, text, rows = against_others(SMALL, points)
    assert "Depths win at 1 of 2 compressions" in text
    assert "| 20 | dwf-2 | 1.50 | gmp | 2.00 | -0.500 | wins | yes |" in rows
    assert "| 100 | dwf-3 | 4.10 | gmp | 3.10 | +1.000 | **loses** | no |" in rows
    assert "| 500 |" not in rows
    assert against_others(SMALL, {"gmp": points["gmp"]}) == []


def test_published_numbers_stand_beside_ours_at_no_lower_compression() -> None:
    points = {"dwf-2": {20.0: Point((1.5,), 0.1, 0), 100.0: Point((2.5,), 0.1, 0)}}
    rows = against_published(SMALL, points)[2]
    assert "| Han et al. | 12 | 1.59 | 20 | dwf-2 | 1.50 | better |" in rows
    assert "| Sparse variational dropout | 68 | 1.92 | 100 | dwf-2 | 2.50 | **worse** |" in rows
    assert "| dense | 1 | 1.64 | – | not run |  |  |" in rows
    assert against_published(Experiment("digits", "MLP", 1, 1, (2.0,)), points) == []
